"""Tasks that go through the layers together, a chunk of them at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from binomctl.curvature.workers import Workers

T = TypeVar("T")
FEW_PLACES = 8000  # pixels of all of a task's images; measured: 5 x 28x28 together, 25 x 28x28 not


@dataclass(frozen=True)
class Chunks:
    """How tasks are divided.

    Args:
        given: tasks that go together, whatever their inputs; None decides by their size.
        few: tasks of large images that go together; None takes all of them.
        workers: chunks side by side.
        apart: whatever their size, tasks go alone where there are as many as workers.
    """

    given: int | None
    few: int | None
    workers: Workers
    apart: bool = False

    def size(self, x: Tensor) -> int:
        """How many tasks of such inputs [B, N, ...] go through the layers together.

        Small images: one operation for all tasks beats threads that wait for the interpreter.
        Large ones: what is alive at a time is bounded.
        """
        if self.given is not None:
            return self.given
        if self.apart and len(x) >= self.workers.count:
            return 1
        large = math.prod(x.shape[1:-1]) > FEW_PLACES
        return self.few if large and self.few else len(x)

    def map(self, function: Callable[[slice], T], x: Tensor) -> list[T]:
        """function(rows) for every chunk of the tasks whose inputs are x, a few side by side."""
        count, size = len(x), self.size(x)
        chunks = [slice(i, min(i + size, count)) for i in range(0, count, size)]

        def quiet(rows: slice) -> T:
            with torch.no_grad():  # per thread: grad mode is not inherited
                return function(rows)

        return self.workers.map(quiet, chunks)


def whole(parts: Sequence[Tensor]) -> Tensor:
    """The chunks' rows one after another; a single chunk without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
