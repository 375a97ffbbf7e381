"""glibc's allocator, told to keep what it has: large tensors are made and freed all the time.

By default every block above some size goes back to the system when it is freed and comes back as
pages that fault one by one; convolutional steps take 1.2 to 1.7 times as long. Kept blocks stay in
the resident set: benchmarks/speed.py measures by how much.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

SWITCH = "BINOMCTL_MALLOC"
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
_NEVER = 2**31 - 1


def tune_allocator(*, one_arena: bool = False) -> bool:
    """Keep freed blocks, from now on and in the whole process; whether that was done.

    Only on Linux with glibc, before the first large tensor; BINOMCTL_MALLOC=0 switches it off.

    Args:
        one_arena: let all threads share one arena. Blocks above 64 MB cannot be kept in the arena
            of a thread of its own; with small blocks the threads would wait for one another.
    """
    if os.environ.get(SWITCH, "1") == "0" or not sys.platform.startswith("linux"):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    done = mallopt(_MMAP_THRESHOLD, _NEVER) and mallopt(_TRIM_THRESHOLD, _NEVER)
    if one_arena:
        done = mallopt(_ARENA_MAX, 1) and done
    return bool(done)


def release_freed() -> None:
    """Give blocks that are kept back once, so that what is used from now on can be measured."""
    if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
