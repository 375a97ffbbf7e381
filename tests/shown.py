"""Whether what a page shows of a command is what the command prints."""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
TIMED = re.compile(
    r"^ *(seconds|time) |GFLOP/s| s left|CPU thread|%.*━"
)  # another machine's, another hour's
NOTHING = 1e-9  # a difference that is rounding alone


def missing(shown: str, printed: str, within: float) -> list[str]:
    """The lines of `shown` that no line of `printed` is like: the same words, and numbers that
    differ by no more than the share `within`, another processor's rounding; times are any.

    A line that a terminal broke is shown as it was broken.
    """
    answers = [_taken_apart(line) for line in printed.splitlines()]
    wanted = (line for line in shown.splitlines() if line.strip(" ─"))
    return [line for line in wanted if not _found(line, answers, within)]


def _found(line: str, answers: Iterable[tuple[str, list[float]]], within: float) -> bool:
    words, numbers = _taken_apart(line)
    timed = TIMED.search(line) is not None
    return any(
        words == other
        and (timed or all(_near(*pair, within) for pair in zip(numbers, found, strict=True)))
        for other, found in answers
    )


def _near(a: float, b: float, within: float) -> bool:
    return abs(a - b) <= max(within * max(abs(a), abs(b)), NOTHING)


def _taken_apart(line: str) -> tuple[str, list[float]]:
    """Its words, with 0 for every number, bars one character long; and its numbers."""
    words = " ".join(re.sub(r"([━═╌])\1*", r"\1", NUMBER.sub("0", line)).split())
    words = words.replace("CPU threads", "CPU thread")  # one is as good as two
    return words, [float(n.replace(",", "")) for n in NUMBER.findall(line)]
