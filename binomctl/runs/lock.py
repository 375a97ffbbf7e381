"""One process at a time writes to a run folder."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from binomctl.errors import ConfigError

NAME = ".lock"


def locked(folder: Path, wait: float = 1.0) -> FileLock:
    """The folder's lock, held. The system gives it back when the process ends, however it ends.

    Args:
        wait: seconds; whoever asks `is_locked` holds it for a moment.

    Raises:
        ConfigError: another process holds it.
    """
    lock = FileLock(str(folder / NAME))
    try:
        lock.acquire(timeout=wait)
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
        locked(folder, wait=0).release()
    except PermissionError:  # a colleague's: nobody who may not write to it can know
        return False
    except (ConfigError, OSError):
        return True
    return False
