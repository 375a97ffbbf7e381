"""Elementwise functions with their first two derivatives.

At a kink the derivative is the one that torch has there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.curvature.analytic.layer import Cache, Parameters

Derivatives = tuple[Tensor, Tensor]
Curve = Callable[[Tensor, Tensor], Derivatives]
"""x and y -> the first and the second derivative."""


@dataclass(frozen=True)
class Piecewise:
    """y = function(x), linear between kinks, with the slope as a function of x."""

    name: str
    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        cache.primal = self.slope(xs[0])
        return self.function(xs[0])

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [gy * cache.primal if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        return None if txs[0] is None else txs[0] * cache.primal


def scaled(name: str, scale: float, function: Callable[[Tensor], Tensor]) -> Piecewise:
    """A function with the same slope everywhere."""
    return Piecewise(name, function, lambda x: x.new_full((len(x),) + (1,) * (x.dim() - 1), scale))


def inside(low: float | None, high: float | None, slope: float, open_: bool) -> Any:
    """The slope of a function that is straight between two bounds and flat outside."""

    def at(x: Tensor) -> Tensor:
        within = torch.ones_like(x, dtype=torch.bool)
        if low is not None:
            within &= (x > low) if open_ else (x >= low)
        if high is not None:
            within &= (x < high) if open_ else (x <= high)
        return slope * within.to(x.dtype)

    return at


def gelu(x: Tensor) -> Tensor:
    """The second derivative: 2 - x^2 times the density of a standard normal."""
    square = x.square()
    density = (square * -0.5).exp_()
    return square.neg_().add_(2).mul_(density).mul_(1 / math.sqrt(2 * math.pi))


def gelu_tanh(x: Tensor) -> Tensor:
    """The second derivative."""
    k, c = math.sqrt(2 / math.pi), 0.044715
    t = torch.tanh(k * (x + c * x**3))
    u1, u2 = k * (1 + 3 * c * x.square()), 6 * k * c * x
    s = 1 - t.square()
    return s * u1 + 0.5 * x * (s * u2 - 2 * t * s * u1.square())


def silu(x: Tensor) -> Tensor:
    """The second derivative."""
    s = x.sigmoid()
    return s * (1 - s) * (2 + x * (1 - 2 * s))


def mish(x: Tensor, y: Tensor) -> Derivatives:
    t, s = torch.tanh(F.softplus(x)), x.sigmoid()
    d = (1 - t.square()) * s  # of t
    d2 = (1 - t.square()) * s * (1 - s) - 2 * t * d * s
    return t + x * d, 2 * d + x * d2


def exponential(alpha: float, scale: float, rate: float) -> Curve:
    """scale x for x > 0, scale alpha (exp(rate x) - 1) elsewhere."""

    def curve(x: Tensor, y: Tensor) -> Derivatives:
        below = scale * alpha * rate * torch.exp(rate * x.clamp(max=0))
        positive = x > 0
        return torch.where(positive, scale, below), torch.where(positive, 0.0, rate * below)

    return curve


def softplus(beta: float, threshold: float) -> Curve:
    def curve(x: Tensor, y: Tensor) -> Derivatives:
        s, straight = torch.sigmoid(beta * x), beta * x > threshold
        return torch.where(straight, 1.0, s), torch.where(straight, 0.0, beta * s * (1 - s))

    return curve


def hardswish(x: Tensor, y: Tensor) -> Derivatives:
    middle = (x > -3) & (x < 3)
    flat = torch.where(x >= 3, 1.0, 0.0).to(x.dtype)
    return torch.where(middle, x / 3 + 0.5, flat), middle.to(x.dtype) / 3


def power(n: float) -> Curve:
    def curve(x: Tensor, y: Tensor) -> Derivatives:
        first = torch.zeros_like(x) if n == 0 else n * x ** (n - 1)
        second = torch.zeros_like(x) if n in (0, 1) else n * (n - 1) * x ** (n - 2)
        return first, second

    return curve


def logsigmoid(x: Tensor, y: Tensor) -> Derivatives:
    s = torch.sigmoid(x)
    return torch.sigmoid(-x), -s * (1 - s)


def softsign(x: Tensor, y: Tensor) -> Derivatives:
    r = 1 / (1 + x.abs())
    return r.square(), -2 * x.sign() * r**3


CURVES: dict[str, tuple[Callable[[Tensor], Tensor], Curve]] = {
    "exp": (torch.exp, lambda x, y: (y, y)),
    "expm1": (torch.expm1, lambda x, y: (y + 1, y + 1)),
    "log": (torch.log, lambda x, y: (1 / x, -1 / x.square())),
    "log1p": (torch.log1p, lambda x, y: (1 / (1 + x), -1 / (1 + x).square())),
    "sqrt": (torch.sqrt, lambda x, y: (0.5 / y, -0.25 / (y * x))),
    "rsqrt": (torch.rsqrt, lambda x, y: (-0.5 * y**3, 0.75 * y**5)),
    "sin": (torch.sin, lambda x, y: (x.cos(), -y)),
    "cos": (torch.cos, lambda x, y: (-x.sin(), -y)),
    "square": (torch.square, lambda x, y: (2 * x, torch.full_like(x, 2.0))),
    "reciprocal": (torch.reciprocal, lambda x, y: (-y.square(), 2 * y**3)),
    "erf": (
        torch.erf,
        lambda x, y: (
            2 / math.sqrt(math.pi) * torch.exp(-x.square()),
            -4 / math.sqrt(math.pi) * x * torch.exp(-x.square()),
        ),
    ),
    "mish": (F.mish, mish),
    "hardswish": (F.hardswish, hardswish),
    "logsigmoid": (F.logsigmoid, logsigmoid),
    "softsign": (F.softsign, softsign),
}
"""Functions without options: the function, and its derivatives."""
