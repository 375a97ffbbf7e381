"""Linear maps that move numbers: reshape, permute, expand, index, sums and means over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from binomctl.curvature.analytic.broadcasting import narrowed, widened
from binomctl.curvature.analytic.layer import Cache, Parameters
from binomctl.curvature.analytic.layers import LinearMap


def reshape(shape: Sequence[int]) -> LinearMap:
    """Every task's value in another shape."""
    return LinearMap(
        f"reshape to {tuple(shape)}",
        lambda x: x.reshape(len(x), *shape),
        lambda g, old: g.reshape(len(g), *old),
    )


def permute(order: Sequence[int]) -> LinearMap:
    """A task's axes in another order."""
    axes = [0, *(i + 1 for i in order)]
    back = [axes.index(i) for i in range(len(axes))]
    return LinearMap(
        f"permute {tuple(order)}", lambda x: x.permute(axes), lambda g, shape: g.permute(back)
    )


def expand(shape: Sequence[int]) -> LinearMap:
    """Broadcast to a shape."""
    return LinearMap(
        f"expand to {tuple(shape)}",
        lambda x: widened(x, len(shape)).expand(len(x), *shape),
        lambda g, old: narrowed(g, old),
    )


def index(where: tuple[Any, ...]) -> LinearMap:
    """x[where] for numbers, slices, None and Ellipsis."""
    inner = (slice(None), *where)

    def back(g: Tensor, shape: torch.Size) -> Tensor:
        out = g.new_zeros(len(g), *shape)
        out[inner] = g
        return out

    return LinearMap(f"index {where}", lambda x: x[inner], back)


def reduce(axes: Sequence[int], keep: bool, mean: bool) -> LinearMap:
    """The sum or the mean over some of a task's axes."""
    at = [i + 1 for i in axes]

    def apply(x: Tensor) -> Tensor:
        if not at:
            return x
        return x.mean(at, keepdim=keep) if mean else x.sum(at, keepdim=keep)

    def back(g: Tensor, shape: torch.Size) -> Tensor:
        kept = [1 if i in axes else n for i, n in enumerate(shape)]
        if mean:
            g = g / math.prod(shape[i] for i in axes)
        return g.reshape(len(g), *kept).expand(len(g), *shape)

    return LinearMap(f"{'mean' if mean else 'sum'} over {tuple(axes)}", apply, back)


@dataclass(frozen=True)
class Concat:
    """Values one after another along a task's axis."""

    axis: int

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        cache.primal = tuple(x.shape[1:] for x in xs)
        return torch.cat(list(xs), self.axis + 1)

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        parts = torch.split(gy, [shape[self.axis] for shape in cache.primal], self.axis + 1)
        return [part if w else None for part, w in zip(parts, wanted, strict=True)], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        some = next((t for t in txs if t is not None), None)
        if some is None:
            return None
        zeros = [some.new_zeros(1).expand(len(some), *shape) for shape in cache.primal]
        parts = [z if t is None else t for z, t in zip(zeros, txs, strict=True)]
        return torch.cat(parts, self.axis + 1)


@dataclass(frozen=True)
class Add:
    """a + sign b, broadcast."""

    sign: int = 1

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        a, b = xs
        cache.primal = (a.shape[1:], b.shape[1:])
        rank = max(a.dim(), b.dim()) - 1
        return torch.add(widened(a, rank), widened(b, rank), alpha=self.sign)

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        a, b = cache.primal
        first = narrowed(gy, a) if wanted[0] else None
        return [first, narrowed(self._signed(gy), b) if wanted[1] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (a, b), (ta, tb) = cache.primal, txs
        shape = torch.Size(torch.broadcast_shapes(a, b))  # type: ignore[no-untyped-call]
        if tb is not None:
            tb = self._signed(widened(tb, len(shape)))
        if ta is None or tb is None:
            one = ta if tb is None else tb
            return None if one is None else widened(one, len(shape)).expand(len(one), *shape)
        return widened(ta, len(shape)) + tb

    def _signed(self, t: Tensor) -> Tensor:
        return t if self.sign == 1 else -t


@dataclass(frozen=True)
class Gather:
    """Rows of a table [T, V, F] by whole numbers [T, ...]; the row `padding` has no gradient."""

    padding: int | None

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        where, table = xs
        cache.primal = [where, torch.Size(table.shape[1:])]
        return self._rows(where, table)

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        if not wanted[1]:
            return [None, None], {}
        where, shape = cache.primal
        rows = where.flatten(1).unsqueeze(-1).expand(len(gy), -1, shape[-1])
        out = gy.new_zeros(len(gy), *shape)
        out.scatter_add_(1, rows, gy.reshape(len(gy), -1, shape[-1]))
        return [None, self._masked(out)], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        table = txs[1]
        return None if table is None else self._rows(cache.primal[0], self._masked(table.clone()))

    def _rows(self, where: Tensor, table: Tensor) -> Tensor:
        tasks = torch.arange(len(table), device=table.device)
        return table[tasks.view(-1, *[1] * (where.dim() - 1)), where]

    def _masked(self, table: Tensor) -> Tensor:
        if self.padding is not None:
            table[:, self.padding] = 0
        return table
