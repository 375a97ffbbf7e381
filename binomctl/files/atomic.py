"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from binomctl.errors import ResourceError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside the target, flush to disk, rename over it, flush the folder.

    Raises:
        ResourceError: the disk is full; the file that was there before is untouched.
    """
    with disk_full(path):
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            with open(beside, "xb") as file:  # as open makes it, the umask is respected
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)  # Windows renames no open file
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of an indented JSON document."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn whatever keeps a file from being written into a ResourceError naming it: a full disk,
    a folder that was renamed or made read-only meanwhile."""
    with disk_full(path):
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise ResourceError(
                f"cannot write {path}: {error.strerror or error}",
                "Is the folder still there, and may it be written?",
            ) from error


@contextmanager
def disk_full(path: Path) -> Iterator[None]:
    """Turn "no space left" into a ResourceError naming the file."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceError(
                f"no space left on the disk while writing {path}",
                "Free some space.",
            ) from error
        raise


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # folders cannot be opened on Windows
    handle = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
