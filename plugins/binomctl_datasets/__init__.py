"""Datasets, one a file."""
