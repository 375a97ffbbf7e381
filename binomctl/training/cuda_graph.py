"""A function of tensors as a CUDA graph: recorded once, replayed for every further call.

A meta-step is hundreds of small kernels, and a GPU would wait for Python between them. Recorded
are shapes and addresses: inputs are copied to where they lay, and the outputs of one call are
overwritten by the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")
WARM_UP = 3


class Captured(Generic[R]):
    """Records at the first call with inputs of certain shapes, replays from then on.

    Args:
        function: tensors on one CUDA device -> anything that holds tensors; no autograd, no value
            read back on the way.
        check: refuses what a recording gave, with what the function itself gave beside it.

    Raises:
        RuntimeError: at the call that records: something in the function cannot be recorded, or
            `check` has raised.
    """

    def __init__(self, function: Callable[..., R], check: Callable[[R, R], None]) -> None:
        self._function, self._check = function, check
        self._graphs: dict[tuple[torch.Size, ...], _Recording[R]] = {}

    def __call__(self, *inputs: Tensor) -> R:
        shapes = tuple(t.shape for t in inputs)
        if shapes not in self._graphs:
            recording = _Recording(self._function, inputs)
            # Against the function itself on other inputs than the recorded ones, before anybody
            # relies on it: what was frozen into the recording shows.
            others = tuple(1.01 * t if t.is_floating_point() else t for t in inputs)
            with torch.no_grad():
                self._check(recording.replay(others), self._function(*others))
            self._graphs[shapes] = recording
        return self._graphs[shapes].replay(inputs)


class _Recording(Generic[R]):
    def __init__(self, function: Callable[..., R], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [t.clone() for t in inputs]
        device = self._inputs[0].device
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side), torch.no_grad():  # libraries make their work space now
            for _ in range(WARM_UP):
                function(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph, stream=side):
            self._outputs = function(*self._inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> R:
        for static, value in zip(self._inputs, inputs, strict=True):
            static.copy_(value)
        self._graph.replay()
        return self._outputs
