"""The cores that this process may use."""

from __future__ import annotations

import os

import psutil


def cores() -> list[int]:
    """Their numbers: those of its affinity, all where the system knows none (macOS)."""
    process = psutil.Process()
    affinity: list[int] = process.cpu_affinity() if hasattr(process, "cpu_affinity") else []
    return affinity or list(range(os.cpu_count() or 1))
