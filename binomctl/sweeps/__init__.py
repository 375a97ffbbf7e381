"""Grids of runs: built, executed on this machine or on a cluster, looked after."""
