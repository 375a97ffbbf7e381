"""The exception family: every error a user can meet carries its exit code and what to do next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path


class BinomctlError(Exception):
    """Base of all errors that binomctl words for its user.

    Args:
        message: what was wrong, with the value and the place.
        hint: the next step, a full sentence; shown on a line of its own.
    """

    exit_code = 1
    quiet = False
    """Whether another process of the same run says it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(BinomctlError):
    """A wrong option, key or value: exit code 2.

    Args:
        key: the dotted configuration key at fault ("estimator.L"), where there is one; the
            configuration layer adds the file and line it came from.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "", key: str = "") -> None:
        super().__init__(message, hint)
        self.key = key


class DataError(BinomctlError):
    """Missing, corrupt or insufficient data: exit code 3."""

    exit_code = 3


class DamagedFile(DataError):
    """A data file that is cut off, corrupt or not what it should be.

    Args:
        path: the file; None when it is known only to the caller, who names it.
    """

    def __init__(self, message: str, hint: str = "", path: Path | None = None) -> None:
        super().__init__(message, hint)
        self.path = path


class CheckpointError(BinomctlError):
    """A run or checkpoint that cannot be used: exit code 4."""

    exit_code = 4


class NonFiniteError(BinomctlError):
    """NaN or infinity in a loss, a gradient or a Hessian-vector product: exit code 5."""

    exit_code = 5


class ResourceError(BinomctlError):
    """Out of memory, of disk, or of a process of the run: exit code 6."""

    exit_code = 6


class RankLost(ResourceError):
    """Another process of the run has ended, or does not answer: exit code 6."""


class MissingDependencyError(BinomctlError):
    """An optional package is needed and absent: exit code 7."""

    exit_code = 7


class Interrupted(BinomctlError):
    """Stopped by a signal after the work was saved: exit code 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int, hint: str = "") -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number


def cannot_write(path: Path, why: str | None) -> ConfigError:
    """The refusal of a file that a command was asked to write."""
    return ConfigError(
        f"cannot write {path}: {why or 'no reason was given'}",
        "Name a file in a folder that is there and that you may write to.",
    )


def unknown(what: str, value: str, choices: Iterable[str], where: str = "") -> str:
    """Word an unknown name: the value, the nearest valid one and the whole list."""
    names = sorted(choices)
    guess = nearest(value, names)
    place = f" {where}" if where else ""
    listed = f"Valid: {', '.join(names)}." if names else "There is none."
    return f"unknown {what} '{value}'{place}.{guess} {listed}"


def nearest(value: str, choices: Iterable[str]) -> str:
    """ " Did you mean '...'?", empty where no choice is near."""
    names = list(choices)
    low = value.lower()
    same = [name for name in names if name.lower() == low]
    same += [name for name in names if name.lower().rpartition("/")[2] == low]
    cutoff = 0.5 if len(value) <= 3 else 0.6  # one letter of two is half of a word
    near = same or difflib.get_close_matches(value, names, n=1, cutoff=cutoff)
    return f" Did you mean '{near[0]}'?" if near else ""


_WORDS = (
    (r"Input should be a valid integer.*", "expected a whole number"),
    (r"Input should be a valid number.*", "expected a number"),
    (r"Input should be a valid string.*", "expected a word"),
    (r"Input should be a valid boolean.*", "expected true or false"),
    (r"Input should be a valid (list|tuple).*", "expected a list"),
    (r"Input should be a valid dictionary.*", "expected keys and values"),
    (r"Input should be greater than or equal to (.*)", r"expected at least \1"),
    (r"Input should be less than or equal to (.*)", r"expected at most \1"),
    (r"Input should be greater than (.*)", r"expected more than \1"),
    (r"Input should be less than (.*)", r"expected less than \1"),
    (r"Input should be (.*)", r"expected \1"),
)


def expected(said: str, value: object) -> str:
    """What a validator says of a value, in our words, with the nearest valid choice."""
    for pattern, words in _WORDS:
        if re.fullmatch(pattern, said):
            said = re.sub(pattern, words, said)
            break
    choices = re.findall(r"'([^']*)'", said)
    return f"{said}.{nearest(value, choices) if isinstance(value, str) else ''}"
