"""Elementwise layers: piecewise linear with one kink, and smooth with two known derivatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class _Curved(ABC):
    """An elementwise function by its first derivative times a tensor, and its second one."""

    @abstractmethod
    def _through(self, g: Tensor, cache: Cache) -> Tensor:
        """g times the first derivative, a tensor of its own."""

    @abstractmethod
    def _second(self, cache: Cache) -> Tensor:
        """The second derivative."""

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [self._through(gy, cache) if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (tx,) = txs
        cache.tangent = tx
        return None if tx is None else self._through(tx, cache)

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
        tgx = self._through(tgy, cache)
        if cache.tangent is not None:
            tgx = tgx.addcmul_(gy * self._second(cache), cache.tangent)
        return [tgx], {}


@dataclass(frozen=True)
class Smooth(_Curved):
    """An elementwise function y of x, and its first two derivatives, in terms of x and y."""

    name: str
    function: Callable[[Tensor], Tensor]
    derivatives: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        y = self.function(xs[0])
        cache.primal = self.derivatives(xs[0], y)
        return y

    def _through(self, g: Tensor, cache: Cache) -> Tensor:
        out: Tensor = g * cache.primal[0]
        return out

    def _second(self, cache: Cache) -> Tensor:
        out: Tensor = cache.primal[1]
        return out


@dataclass(frozen=True)
class Fused(_Curved):
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

    def _through(self, g: Tensor, cache: Cache) -> Tensor:
        return self.through(g, cache.primal[0])

    def _second(self, cache: Cache) -> Tensor:
        x, second = cache.primal
        if second is None:
            second = cache.primal[1] = self.second(x)
        out: Tensor = second
        return out


TANH = Smooth("tanh", torch.tanh, lambda x, y: (1 - y.square(), -2 * y * (1 - y.square())))
SIGMOID = Smooth("sigmoid", torch.sigmoid, lambda x, y: (y * (1 - y), y * (1 - y) * (1 - 2 * y)))
