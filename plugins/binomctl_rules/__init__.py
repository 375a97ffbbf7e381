"""Adaptation rules, one a file."""
