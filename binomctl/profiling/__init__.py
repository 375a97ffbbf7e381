"""Measuring what a computation costs."""

from binomctl.profiling.allocations import peak_allocated

__all__ = ["peak_allocated"]
