"""How many threads torch uses inside one operation."""

from __future__ import annotations

import threading

import torch


def one_op_thread() -> None:
    """Run the calling thread's operations on it alone, and leave all other threads as they are.

    A thread that uses several gets a team of its own, whose members spin beside everybody else's.
    """
    everyone = torch.get_num_threads()
    torch.set_num_threads(1)  # of this thread, and the default of threads yet to come:
    threading.Thread(target=torch.set_num_threads, args=(everyone,)).start()
