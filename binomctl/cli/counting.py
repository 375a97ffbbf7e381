"""How far a command is that counts its work, and the time left: a bar on a terminal, else lines."""

from __future__ import annotations

from typing import Any

from binomctl.cli.bar import Pace, bar
from binomctl.cli.console import print_note

EVERY = 10.0  # seconds between lines where there is no terminal


class Counting:
    """Progress on stderr of work that comes in pieces; in `with`.

    Args:
        what: is done, "evaluating" say; short, for lines of 60 columns.
        total: how many pieces.
        units: what the pieces are, "tasks" say.
    """

    def __init__(self, what: str, total: int, units: str) -> None:
        self._what, self._total, self._units = what, total, units
        self._done = 0
        self._pace = Pace(total, 0, EVERY)
        self._doing = ""
        self._bar: Any = None

    def __enter__(self) -> Counting:
        self._bar = bar(self._total, f" {self._units}", what=self._what, leave=False)
        if self._bar is None:
            print_note(f"{self._what}: {self._total} {self._units}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def doing(self, text: str) -> None:
        """What the next piece is."""
        self._doing = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            self._tell()

    def advance(self, n: int = 1) -> None:
        """So many more are done."""
        self.reach(self._done + n)

    def reach(self, done: int) -> None:
        """So many are done in all; never fewer than before."""
        more, self._done = max(0, done - self._done), max(done, self._done)
        if self._bar is not None:
            self._bar.update(more)
        else:
            self._tell()

    def _tell(self) -> None:
        if self._done < self._total and self._pace.due():
            print_note(self._line())

    def _line(self) -> str:
        from binomctl.settings.durations import worded

        text = f"{self._what}: {self._done} of {self._total} {self._units}"
        if (left := self._pace.left(self._done)) is not None:
            text += f", about {worded(left)} left"
        return text + (f"; {self._doing}" if self._doing else "")
