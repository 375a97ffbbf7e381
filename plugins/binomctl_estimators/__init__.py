"""Meta-gradient estimators, one algorithm a file."""
