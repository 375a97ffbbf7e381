"""Pickles read without unpickling."""
