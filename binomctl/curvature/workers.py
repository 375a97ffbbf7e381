"""Tasks side by side: a few threads, each with one op thread and a model copy of its own.

A small convolution gains little from two op threads, two tasks on two threads gain nearly all.
`functional_call` swaps the parameters of the module object it is given while it runs, so a module
must never be shared between threads.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from torch import nn

from binomctl.op_threads import one_op_thread

T = TypeVar("T")


class Workers:
    """Runs one function per task, in order of the tasks; the first error is raised.

    Args:
        model: copied once for every thread; None where the function needs none.
        count: number of threads; 1 runs everything in the caller's thread with all op threads.
    """

    def __init__(self, model: nn.Module | None, count: int) -> None:
        self._main = model
        self._local = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        if count > 1:
            self._pool = ThreadPoolExecutor(
                count, thread_name_prefix="binomctl-task", initializer=self._start
            )

    @property
    def model(self) -> nn.Module:
        """The calling thread's own copy of the model."""
        model = getattr(self._local, "model", self._main)
        assert isinstance(model, nn.Module)
        return model

    def map(self, function: Callable[..., T], *columns: Iterable[Any]) -> list[T]:
        """function(*row) for every row of the columns."""
        rows = list(zip(*columns, strict=True))
        if self._pool is None or len(rows) == 1:
            return [function(*row) for row in rows]
        return list(self._pool.map(lambda row: function(*row), rows))

    def _start(self) -> None:
        one_op_thread()
        self._local.model = copy.deepcopy(self._main)
