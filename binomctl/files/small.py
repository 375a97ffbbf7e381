"""Small text files that somebody else may have written: bounded, regular, of a known shape."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST = 2**20  # bytes; a configuration has 4,000
TEXT_TOO_LONG = "it is longer than {:,} bytes"


def read_small(path: Path, most: int = MOST, *, pipes: bool = False) -> bytes:
    """The bytes of a file that is meant to be small.

    pipes: whether a pipe will do, as a shell's <(command) is one; waiting for one that nobody
    writes to would take for ever.

    Raises:
        OSError: it cannot be read, is no plain file, or is longer than `most` bytes.
    """
    handle = os.open(path, os.O_RDONLY | (0 if pipes else getattr(os, "O_NONBLOCK", 0)))
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode) and not (pipes and stat.S_ISFIFO(mode)):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, TEXT_TOO_LONG.format(most), str(path))
    return data


def read_object(path: Path, most: int = 64 * MOST) -> dict[str, Any]:
    """The object in a small JSON file.

    Raises:
        OSError: as `read_small`.
        ValueError: it is not JSON, nested without end, holds NaN, or is no object.
    """
    data = read_small(path, most)
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested without end") from error
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, expected keys and values")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no number of JSON")
