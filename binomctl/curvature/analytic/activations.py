"""Elementwise layers: piecewise linear with one kink, and smooth with two known derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.curvature.analytic.layer import Cache, Parameters


@dataclass(frozen=True)
class Leaky:
    """ReLU (slope 0) and leaky ReLU; at 0 the derivative is the slope, as torch has it."""

    slope: float

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        y = torch.relu(xs[0]) if self.slope == 0 else F.leaky_relu(xs[0], self.slope)
        cache.primal = y
        return y

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [self._through(gy, cache.primal) if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        return None if txs[0] is None else self._through(txs[0], cache.primal)

    def _through(self, g: Tensor, y: Tensor) -> Tensor:
        """g times the derivative: one fused operation of torch's for ReLU."""
        if self.slope == 0:
            out: Tensor = torch.ops.aten.threshold_backward(g, y, 0)
        else:
            out = torch.ops.aten.leaky_relu_backward(g, y, self.slope, True)
        return out


@dataclass(frozen=True)
class Smooth:
    """An elementwise function y of x, and its first two derivatives, in terms of x and y."""

    name: str
    function: Callable[[Tensor], Tensor]
    derivatives: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        y = self.function(xs[0])
        cache.primal = self.derivatives(xs[0], y)
        return y

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [gy * cache.primal[0] if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (tx,) = txs
        cache.tangent = tx
        return None if tx is None else tx * cache.primal[0]

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        if not wanted[0]:
            return [None], {}
        tgx = tgy * cache.primal[0]
        if cache.tangent is not None:
            tgx = torch.addcmul(tgx, gy * cache.primal[1], cache.tangent)
        return [tgx], {}


@dataclass(frozen=True)
class Fused:
    """An elementwise function of x whose derivative times a gradient is one operation of torch's.

    through: g and x -> g times the first derivative. second: x -> the second derivative, computed
    when the first product asks for it.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    through: Callable[[Tensor, Tensor], Tensor]
    second: Callable[[Tensor], Tensor]

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        cache.primal = [xs[0], None]
        return self.function(xs[0])

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [self.through(gy, cache.primal[0]) if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (tx,) = txs
        cache.tangent = tx
        return None if tx is None else self.through(tx, cache.primal[0])

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        if not wanted[0]:
            return [None], {}
        x, second = cache.primal
        tgx = self.through(tgy, x)
        if cache.tangent is not None:
            if second is None:
                second = cache.primal[1] = self.second(x)
            tgx = tgx.addcmul_(gy * second, cache.tangent)
        return [tgx], {}


TANH = Smooth("tanh", torch.tanh, lambda x, y: (1 - y.square(), -2 * y * (1 - y.square())))
SIGMOID = Smooth("sigmoid", torch.sigmoid, lambda x, y: (y * (1 - y), y * (1 - y) * (1 - 2 * y)))
