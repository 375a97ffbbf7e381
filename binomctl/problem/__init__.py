"""A configuration made real."""
