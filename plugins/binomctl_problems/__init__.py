"""Bilevel problems, one a file."""
