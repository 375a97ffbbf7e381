"""Algorithmic work of a meta-step, and how fast this machine can do such work at all.

F are the FLOPs of the forward pass of one example, c those of its first layer, whose input needs
neither a gradient nor a tangent. A gradient costs 3 F - c, a Hessian-vector product with its
linearisation at hand 6 F - 4 c; making a linearisation anew is the schedule's cost, not counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Work:
    """FLOPs of one example's forward pass, all layers and the first."""

    forward: float
    first: float

    @classmethod
    def of(cls, model: nn.Module, x: Tensor) -> Work:
        """Counted by torch (convolutions and matrix products) on one task's inputs [N, ...]."""
        address = x.data_ptr()

        def reads_input(module: nn.Module, inputs: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and inputs[0].data_ptr() == address:
                readers.append((module, inputs[0]))

        readers: list[tuple[nn.Module, Tensor]] = []
        leaves = [m for m in model.modules() if not any(m.children())]
        hooks = [m.register_forward_pre_hook(reads_input) for m in leaves]
        try:
            total = _flops(lambda: model(x))
        finally:
            for hook in hooks:
                hook.remove()
        first = sum(_flops(lambda m=m, v=v: m(v)) for m, v in readers)  # type: ignore[misc]
        return cls(total / len(x), first / len(x))

    def step(self, K: int, B: int, support: int, query: int, products: int) -> float:
        """A meta-step of B tasks: K inner gradients on `support` examples, one on `query`, and so
        many Hessian-vector products."""
        gradient, product = 3 * self.forward - self.first, 6 * self.forward - 4 * self.first
        return B * ((K * support + query) * gradient + products * support * product)


def _flops(function: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return float(counter.get_total_flops())


def machine_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """FLOP/s that torch reaches here: a large matrix product, and the second convolution of
    Conv4-32 on 75 images of 84x84; medians of 9."""
    n = 4096 if device.type == "cuda" else 1024
    a = torch.rand(n, n, device=device, dtype=dtype)
    x = torch.rand(75, 32, 42, 42, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    w = torch.rand(32, 32, 3, 3, device=device, dtype=dtype)
    w = w.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return {
            "matrix_product": _rate(lambda: a @ a, 2.0 * n**3, device),
            "convolution": _rate(
                lambda: nn.functional.conv2d(x, w, padding=1),
                2.0 * 9 * 32 * 32 * 42 * 42 * 75,
                device,
            ),
        }


def _rate(function: Callable[[], object], flops: float, device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    function()
    for _ in range(9):
        wait()
        start = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - start)
    return flops / statistics.median(times)
