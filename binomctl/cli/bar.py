"""What both kinds of progress share: a bar that fits the terminal, and when to say what is left."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console

from binomctl.cli.console import hushed

NARROW = 90  # columns under which a bar has no room for rates
SHORT = "{desc}{bar} {n_fmt}/{total_fmt}, {remaining} left{postfix}"


def narrow() -> bool:
    """Whether the terminal has less room than a bar's numbers want."""
    return Console(stderr=True).width < NARROW


def bar(total: int, unit: str, *, what: str = "", done: int = 0, leave: bool) -> Any:
    """A tqdm bar on stderr; None off a terminal, and where another process speaks."""
    if hushed() or not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=what or None, unit=unit, dynamic_ncols=True,
                leave=leave, bar_format=SHORT if narrow() else None)  # fmt: skip


class Pace:
    """How long the rest takes at the pace so far, and whether it is time to say so.

    Args:
        total: pieces of work.
        done: those that were done before.
        every: seconds between two lines.
    """

    def __init__(self, total: int, done: int, every: float) -> None:
        self._total, self._before, self._every = total, done, every
        self._began = self._said = time.monotonic()

    def due(self) -> bool:
        """Whether so many seconds have passed since it was last due."""
        now = time.monotonic()
        if now - self._said < self._every:
            return False
        self._said = now
        return True

    def left(self, done: int) -> float | None:
        """Seconds until all is done; None before anything is."""
        if done <= self._before:
            return None
        each = (time.monotonic() - self._began) / (done - self._before)
        return each * (self._total - done)
