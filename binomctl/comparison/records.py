"""Kept results of commands (their --json), and the picture of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from binomctl.errors import BinomctlError, ConfigError
from binomctl.files.small import read_object
from binomctl.reporting.figure_differences import draw_differences
from binomctl.reporting.figure_errors import draw_errors
from binomctl.reporting.figure_profile import draw_profile
from binomctl.reporting.figures import Target

LARGEST = 256 * 2**20
"""Bytes beyond which a file is no result of a command."""


def _draw_errors(record: dict[str, Any], target: Target) -> None:
    along = record.get("along")
    draw_errors([{**record, **one} for one in along] if along else [record], target)


Draw = Callable[[dict[str, Any], Target], None]
KINDS: dict[str, tuple[str, str, Draw]] = {
    "binomctl/error-analysis/1": ("error-analysis", "Errors of the meta-gradient", _draw_errors),
    "binomctl/profile/1": ("profile", "Time, memory and utilisation", draw_profile),
    "binomctl/compare/1": ("compare", "Differences", draw_differences),
}
"""Schema -> the command that prints it, its picture's title, and how it is drawn."""


def read_record(path: Path) -> dict[str, Any]:
    """A result that a command printed with --json; or one kept in another object's "report".

    Raises:
        ConfigError: it cannot be read, or is no result that has a picture.
    """
    try:
        value = read_object(path, LARGEST)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (BinomctlError, ValueError) as error:
        line = getattr(error, "lineno", None)
        why = str(error) if line is None else f"it is no whole JSON, see line {line}"
        raise ConfigError(f"{path} is no result of a command: {why}", _NEXT) from error
    inner = value.get("report")
    if value.get("schema") not in KINDS and isinstance(inner, dict):
        value = inner
    if value.get("schema") not in KINDS:
        found = value.get("schema")
        said = f"its schema is {found!r}" if found else "it has no schema"
        raise ConfigError(f"{path} is no result that has a picture: {said}", _NEXT)
    return value


def draw_record(path: Path, record: dict[str, Any], target: Target) -> None:
    """The picture of a result.

    Raises:
        ConfigError: parts of it are missing.
    """
    command, _, draw = KINDS[record["schema"]]
    try:
        draw(record, target)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        said = f"{type(error).__name__} at {error}"
        raise ConfigError(
            f"{path} is not whole ({said})", f"Write it anew: binomctl {command} ... --json > FILE."
        ) from error


def caption_of(path: Path, record: dict[str, Any]) -> tuple[str, str]:
    """Its picture's title, and what stands under it: the command and the file."""
    command, title, _ = KINDS[record["schema"]]
    return title, f"From {path.name}, a result of binomctl {command}."


_NEXT = (
    "Give what one of these printed with --json: "
    + ", ".join(f"binomctl {command}" for command, _, _ in KINDS.values())
    + "."
)
