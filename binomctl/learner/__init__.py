"""A meta-learned network in use: adapted to a task of a user's own."""
