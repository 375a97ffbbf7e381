"""Inner optimisers, one a file."""
