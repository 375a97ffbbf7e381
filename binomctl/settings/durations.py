"""Lengths of time as people and schedulers write them."""

from __future__ import annotations

import re

from binomctl.errors import ConfigError

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")


def seconds_of(text: str, key: str) -> float:
    """Seconds of "3600", "90m", "1.5h", "2d", "12:30:00" or Slurm's "1-12:00:00".

    Raises:
        ConfigError: it is none of these, or not positive.
    """
    word = text.strip().lower()
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", word)
    clock = _CLOCK.fullmatch(word)
    total = 0.0
    if number:
        total = float(number[1]) * _UNITS[number[2]]
    elif clock:
        days, first, second, third = clock.groups()
        # Two numbers are minutes and seconds, but hours and minutes beside days.
        hours, minutes, rest = (first, second, third or 0) if third or days else (0, first, second)
        total = 86400 * int(days or 0) + 3600 * int(hours) + 60 * int(minutes) + int(rest)
    if total <= 0:
        raise ConfigError(
            f"{key} {text} is no length of time", "Write 3600, 90m, 1.5h or 12:30:00.", key=key
        )
    return total


def worded(seconds: float) -> str:
    """In the largest unit that fits: "3 min"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
