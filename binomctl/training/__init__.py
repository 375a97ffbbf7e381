"""Meta-training: step, loop, validation, run."""
