"""Maps f(a, b) that are linear in each of two values, both of which may depend on parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.curvature.analytic.broadcasting import narrowed, widened
from binomctl.curvature.analytic.layer import Cache, Parameters, add

Transpose = Callable[[Tensor, Tensor, torch.Size], Tensor]


@dataclass(frozen=True)
class Bilinear:
    """f(a, b) by the map and its two transposes.

    Args:
        first: takes a gradient of f, b, and the shape [T, ...] of a, and gives a's gradient.
        second: takes a gradient of f, a, and the shape of b, and gives b's.
    """

    name: str
    apply: Callable[[Tensor, Tensor], Tensor]
    first: Transpose
    second: Transpose

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        a, b = xs
        cache.primal = (a, b)
        return self.apply(a, b)

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        a, b = cache.primal
        first = self.first(gy, b, a.shape) if wanted[0] else None
        return [first, self.second(gy, a, b.shape) if wanted[1] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (a, b), (ta, tb) = cache.primal, txs
        cache.tangent = (ta, tb)
        through_a = None if ta is None else self.apply(ta, b)
        return add(through_a, None if tb is None else self.apply(a, tb))

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        (a, b), (ta, tb) = cache.primal, cache.tangent
        out: list[Tensor | None] = [None, None]
        if wanted[0]:
            moved = None if tb is None else self.first(gy, tb, a.shape)
            out[0] = add(self.first(tgy, b, a.shape), moved)
        if wanted[1]:
            moved = None if ta is None else self.second(gy, ta, b.shape)
            out[1] = add(self.second(tgy, a, b.shape), moved)
        return out, {}


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    rank = max(a.dim(), b.dim()) - 1
    return widened(a, rank) * widened(b, rank)


def _multiply_back(g: Tensor, other: Tensor, shape: torch.Size) -> Tensor:
    return narrowed(g * widened(other, g.dim() - 1), shape[1:])


MULTIPLY = Bilinear("product", _multiply, _multiply_back, _multiply_back)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    rank = max(a.dim(), b.dim()) - 1
    return widened(a, rank) @ widened(b, rank)


MATMUL = Bilinear(
    "matrix product",
    _matmul,
    lambda g, b, shape: narrowed(g @ widened(b.mT, g.dim() - 1), shape[1:]),
    lambda g, a, shape: narrowed(widened(a.mT, g.dim() - 1) @ g, shape[1:]),
)
"""Of a [T, ..., n, k] and b [T, ..., k, m], broadcast between T and the last two axes."""


def contraction(a: str, b: str, out: str) -> Bilinear:
    """einsum("a,b->out") per task; every index of an operand is in the other or in the output."""
    t = next(c for c in "zyxwvutsrqponmlkjihgfedcbaZ" if c not in a + b + out)

    def apply(one: Tensor, two: Tensor) -> Tensor:
        return torch.einsum(f"{t}{a},{t}{b}->{t}{out}", one, two)

    return Bilinear(
        f"{a},{b}->{out}",
        apply,
        lambda g, two, shape: torch.einsum(f"{t}{out},{t}{b}->{t}{a}", g, two),
        lambda g, one, shape: torch.einsum(f"{t}{out},{t}{a}->{t}{b}", g, one),
    )
