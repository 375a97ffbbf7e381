"""How many threads torch uses inside one operation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def one_op_thread() -> None:
    """Run the calling thread's operations on it alone, and leave all other threads as they are.

    A thread that uses several gets a team of its own, whose members spin beside everybody else's.
    """
    with _SETTING:  # another that began in between would take the 1 for everyone's
        everyone = torch.get_num_threads()
        torch.set_num_threads(1)  # of this thread, and the default of threads yet to come:
        restoring = threading.Thread(target=torch.set_num_threads, args=(everyone,))
        restoring.start()
        restoring.join()


_SETTING = threading.Lock()
_here = threading.local()


def kernel_threads() -> int:
    """How many threads a kernel of ours may share its work among."""
    return getattr(_here, "kernels", 0) or torch.get_num_threads()


@contextmanager
def kernels_alone() -> Iterator[None]:
    """Inside, torch's operations are the calling thread's, and kernels have as many threads as
    before.

    All threads of an operation of torch's must come to its end: beside another process on every
    core that takes a turn of the scheduler's, milliseconds for microseconds of work.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    _here.kernels = before
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _here.kernels = 0
