"""Ranges of numbers that callers of the library and command lines give."""

from __future__ import annotations

from math import inf
from typing import Any

from binomctl.errors import ConfigError


def check_count(name: str, value: Any, key: str = "") -> None:
    """Refuse what is no whole number from 1 on: a number of steps, say."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"{name} = {value!r} must be a whole number, at least 1", "Give 1 or more.", key=key
        )


def check_positive(name: str, value: Any, key: str = "") -> None:
    """Refuse what is no positive, finite number: a step size, say."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < inf:
        raise ConfigError(
            f"{name} = {value!r} must be positive and finite",
            "Give a number above 0.",
            key=key,
        )
