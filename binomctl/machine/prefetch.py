"""Drawing tasks ahead of the step that trains on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from binomctl.machine.op_threads import one_op_thread

A = TypeVar("A")
B = TypeVar("B")


def ahead(make: Callable[[A], B], inputs: Iterable[A], workers: int) -> Iterator[tuple[A, B]]:
    """(input, make(input)) in the order of the inputs, made by threads while the last is used.

    The results are those of a plain loop, whatever the number of workers, as long as `make` is
    pure. At most workers + 1 results wait. An error is raised where its result would have come.

    Args:
        make: what the threads do; numpy and torch release the interpreter while they copy.
        inputs: taken as they are needed.
        workers: threads; 0 makes each result when it is asked for.
    """
    if workers == 0:
        for value in inputs:
            yield value, make(value)
        return
    pool = ThreadPoolExecutor(workers, "binomctl-draw", initializer=one_op_thread)
    waiting: deque[tuple[A, Future[B]]] = deque()
    source = iter(inputs)
    try:
        waiting.extend((value, pool.submit(make, value)) for value in islice(source, workers + 1))
        while waiting:
            value, future = waiting.popleft()
            result = future.result()
            waiting.extend((v, pool.submit(make, v)) for v in islice(source, 1))
            yield value, result
    finally:
        pool.shutdown(cancel_futures=True)
