"""Budgets as they are typed: sizes and times with their units."""

from __future__ import annotations

import re

from binomctl.errors import ConfigError

_SIZES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}


def size_of(text: str | None) -> float:
    """Bytes of "8GiB"; infinity for None. Raises ConfigError for anything else."""
    return _quantity(text, _SIZES, "--memory-budget", "8GiB or 500MB")


def time_of(text: str | None) -> float:
    """Seconds of "50ms"; infinity for None. Raises ConfigError for anything else."""
    return _quantity(text, _TIMES, "--time-budget", "50ms or 2s")


def _quantity(text: str | None, units: dict[str, float], option: str, example: str) -> float:
    if text is None:
        return float("inf")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    known = {name.lower(): factor for name, factor in units.items()}
    if match is None or match[2].lower() not in known or not float(match[1]):
        what = "has no unit" if match is not None and not match[2] else "is no quantity"
        raise ConfigError(f"{option} {text} {what}", f"Write {example}; units: {', '.join(units)}.")
    return float(match[1]) * known[match[2].lower()]
