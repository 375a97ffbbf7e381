"""Tasks side by side: a few threads, each with one op thread and a network of its own.

A small convolution gains little from two op threads, two tasks on two threads gain nearly all. A
network holds the parameters of one call at a time, so it is never shared between threads.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from binomctl.curvature.network import Network
from binomctl.machine.op_threads import one_op_thread

T = TypeVar("T")


class Workers:
    """Runs one function per task, in order of the tasks; the first error is raised.

    Args:
        network: the caller's own; None where the function needs none.
        count: number of threads; 1 runs everything in the caller's thread with all op threads.
        copied: makes the network of another thread; called at most `count` times.
    """

    def __init__(
        self, network: Network | None, count: int, copied: Callable[[], Network] | None = None
    ) -> None:
        self._main = network
        self.count = count
        self._copied = copied
        self._networks: list[Network] = []
        self._local = threading.local()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def network(self) -> Network:
        """The calling thread's own."""
        network = getattr(self._local, "network", None) or self._main
        assert network is not None
        return network

    @property
    def networks(self) -> list[Network]:
        """All of them."""
        return [*([self._main] if self._main else []), *self._networks]

    def map(self, function: Callable[..., T], *columns: Iterable[Any]) -> list[T]:
        """function(*row) for every row of the columns."""
        rows = list(zip(*columns, strict=True))
        if self.count == 1 or len(rows) == 1:
            return [function(*row) for row in rows]
        return list(self._running().map(lambda row: function(*row), rows))

    def close(self) -> None:
        """End the threads; the next `map` starts new ones with the same networks."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _running(self) -> ThreadPoolExecutor:
        if self._pool is None:
            if self._copied is not None:
                while len(self._networks) < self.count:
                    self._networks.append(self._copied())
            free: queue.SimpleQueue[Network] = queue.SimpleQueue()
            for network in self._networks:
                free.put(network)
            # No reference to self: the threads end when nobody holds these workers any more.
            self._pool = ThreadPoolExecutor(
                self.count,
                thread_name_prefix="binomctl-task",
                initializer=_start,
                initargs=(self._local, free),
            )
        return self._pool


def _start(local: threading.local, free: queue.SimpleQueue[Network]) -> None:
    one_op_thread()
    if not free.empty():
        local.network = free.get()
