"""Files that a command was given or asked to write, looked at before it computes anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def picture_path(output: Path | None, default: str, force: bool) -> Path:
    """Where a picture goes: as was asked, else the default name, numbered where that is taken.

    Raises:
        ConfigError: it has no suffix of a picture.
    """
    from binomctl.reporting.figures import check_suffix

    if output is not None:
        return check_suffix(output)
    return Path(default) if force else numbered(Path(default))


def numbered(default: Path) -> Path:
    """A path where nothing is yet: name.npz, name-2.npz, ..."""
    path, number = default, 1
    while path.exists():
        number += 1
        path = default.with_stem(f"{default.stem}-{number}")
    return path


def check_outputs(*paths: Path | None, force: bool) -> None:
    """Refuse a file that is there already, a folder, and a place that does not exist.

    Args:
        paths: None for those that were not asked for.
        force: files that are there may be replaced.

    Raises:
        ConfigError: naming the file and what to do.
    """
    from binomctl.errors import ConfigError, cannot_write

    for path in paths:
        if path is None:
            continue
        if not path.absolute().parent.is_dir():
            raise cannot_write(path, f"there is no folder {path.parent}")
        if path.is_dir():
            raise cannot_write(path, "it is a folder")
        stream = path.absolute().is_relative_to("/dev")  # /dev/stdout, perhaps into a file
        if path.is_file() and not force and not stream:
            raise ConfigError(
                f"{path} is there already",
                "Give --force to replace it, or name another file.",
            )


def results_among(paths: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, dict[str, Any]]]]:
    """Folders, and files with what they hold: results that commands printed with --json.

    Raises:
        ConfigError: a file is no such result.
    """
    from binomctl.comparison.records import read_record

    files = [path for path in paths if path.is_file()]
    return [p for p in paths if p not in files], [(path, read_record(path)) for path in files]
