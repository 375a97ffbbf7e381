"""Parameters and constants as values, and where gradients end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from binomctl.curvature.analytic.layer import Cache, Parameters


@dataclass(frozen=True)
class Leaf:
    """A node without inputs: its one parameter or constant, [T, ...]."""

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        return p["value"]

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [], {"value": gy}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        return tp.get("value")


@dataclass(frozen=True)
class Stop:
    """detach: the value without its gradient."""

    stops = True

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        return xs[0]

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [None for _ in wanted], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        return None
