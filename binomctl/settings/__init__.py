"""Configurations and plugins: schema, layers, entry points."""
