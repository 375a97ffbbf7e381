"""One process at a time writes to a run folder."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from binomctl.errors import ConfigError

NAME = ".lock"


def locked(folder: Path) -> FileLock:
    """The folder's lock, held. The system gives it back when the process ends, however it ends.

    Raises:
        ConfigError: another process holds it.
    """
    lock = FileLock(str(folder / NAME))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"another process is writing to {folder}",
            "Wait for it, or choose another --out.",
            key="out",
        ) from error
    return lock


def is_locked(folder: Path) -> bool:
    """Whether a process is writing to a run folder now."""
    if not (folder / NAME).exists():
        return False
    try:
        locked(folder).release()
    except (ConfigError, OSError):
        return True
    return False
