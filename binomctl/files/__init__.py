"""Files that are there whole or not at all, and files from strangers, read without running them."""
