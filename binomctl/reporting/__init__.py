"""Intervals and pictures, from numbers alone."""
