"""Where the images of the usual distributions lie."""
