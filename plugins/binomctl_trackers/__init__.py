"""Trackers of training runs, one a file."""
