"""This computer: allocator, devices, threads, signals, what a run records of it."""
