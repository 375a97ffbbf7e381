"""Runs compared: the same test tasks for all, differences in pairs."""
