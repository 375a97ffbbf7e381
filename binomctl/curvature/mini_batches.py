"""An inner loop on mini-batches: step k has a support loss of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from binomctl.contracts import Curvature, Engine


class SteppedCurvature:
    """Curvature of K mini-batch losses; H_K, behind the last step, is that of the whole set.

    Args:
        engine: computes the parts.
        x: support inputs [B, N, ...], and y targets [B, N, ...].
        batches: indices [B, K, n] of the examples that step k sees.
    """

    def __init__(self, engine: Engine, x: Tensor, y: Tensor, batches: Tensor) -> None:
        row = torch.arange(len(x), device=x.device).unsqueeze(1)
        steps = batches.to(x.device).unbind(1)
        self._parts: list[Curvature] = [engine.curvature(x[row, i], y[row, i]) for i in steps]
        self._parts.append(engine.curvature(x, y))
        self.order: Literal["rows", "columns"] = self._parts[-1].order

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        return self._parts[k].gradient(phi, k, keep)

    def place(self, k: int, phi: Tensor) -> None:
        self._parts[k].place(k, phi)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        columns: list[Tensor] = [V[:, 0]] * len(ks)
        for k in sorted(set(ks)):
            mine = [p for p, kp in enumerate(ks) if kp == k]
            products = self._parts[k].hvp([k] * len(mine), V[:, mine])
            for i, p in enumerate(mine):
                columns[p] = products[:, i]
        return torch.stack(columns, dim=1)
