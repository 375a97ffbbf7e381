"""Reads the pickles that few-shot data sets come in, without running what is in them.

A pickle is a program: loading one with Python's own machine may run any code. This reader knows
the instructions that build numbers, strings, containers and numpy arrays, maps the few globals
such files name to constructors of its own, imports nothing, and refuses all else. Large byte
strings stay where they are: arrays are read-only views into the mapped file, so that a file of
8 GB costs no memory before its images are looked at.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binomctl.errors import DamagedFile, DataError
from binomctl.files.download import is_html
from binomctl.files.pickles.machine import Machine, release
from binomctl.files.pickles.plain_values import Forbidden


@dataclass(frozen=True)
class PickleFile:
    """The data of a pickle and the file its large arrays are views into."""

    path: Path
    data: Any
    mapped: mmap.mmap

    def release(self) -> None:
        """Give the pages that were looked at back to the system; they are read again at need."""
        release(self.mapped)


def read_pickle(path: Path) -> PickleFile:
    """The data in a pickle file; large arrays are read-only views into the file.

    Byte strings of 1,024 bytes and more come as memoryviews, Python 2's short strings as bytes.

    Raises:
        DataError: the file is cut off, is no pickle, or names anything that is not plain data
            (`Forbidden`); no code of it has run.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise DamagedFile(f"{path} is empty", "Fetch it again.", path) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    reader = Machine(data)
    try:
        return PickleFile(path, reader.run(), data)
    except Forbidden as error:
        raise Forbidden(
            f"{path} holds {error} (byte {reader.at:,}): a data file has no need of it, and loading"
            " it could run any code",
            "Nothing of it was run. Fetch the file from a source you trust.",
            path,
        ) from error
    except Exception as error:  # a damaged file may make any constructor fail in any way
        if is_html(data[:512]):
            raise DamagedFile(f"{path} is a web page, not data", "Fetch it again.", path) from error
        raise DamagedFile(
            f"{path} is damaged or no pickle at all: byte {reader.at:,} of {len(data):,}"
            f" ({str(error)[:80]})",
            "Fetch it again.",
            path,
        ) from error
