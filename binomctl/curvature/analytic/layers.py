"""The layers that networks without surprises are made of; what a layer is says layer.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.curvature.analytic.layer import Cache, Parameters, add
from binomctl.curvature.analytic.norm_block import NormBlock, Pool, gather, scatter


@dataclass(frozen=True)
class Linear:
    """y = x w^T + b for vectors x [T, N, F]."""

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        (x,) = xs
        cache.primal = x
        return _affine(x, p["weight"], p.get("bias"))

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        gradients = {"weight": torch.bmm(gy.mT, cache.primal)}
        if "bias" in p:
            gradients["bias"] = gy.sum(1)
        return [torch.bmm(gy, p["weight"]) if wanted[0] else None], gradients

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (tx,) = txs
        cache.tangent = tx
        ty = _affine(cache.primal, tp["weight"], tp.get("bias")) if "weight" in tp else None
        if "bias" in tp and ty is None:  # the weight is frozen
            N = cache.primal.shape[1]
            ty = tp["bias"].unsqueeze(1).expand(-1, N, -1).contiguous()
        if tx is None:
            return ty
        through = p["weight"].mT
        return torch.bmm(tx, through) if ty is None else ty.baddbmm_(tx, through)

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        weight = torch.bmm(tgy.mT, cache.primal)
        if cache.tangent is not None:
            weight.baddbmm_(gy.mT, cache.tangent)
        gradients = {"weight": weight}
        if "bias" in p:
            gradients["bias"] = tgy.sum(1)
        if not wanted[0]:
            return [None], gradients
        tgx = torch.bmm(tgy, p["weight"])
        return [tgx.baddbmm_(gy, tp["weight"]) if "weight" in tp else tgx], gradients


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = torch.bmm(x, weight.mT)
    return out if bias is None else out.add_(bias.unsqueeze(1))


@dataclass(frozen=True)
class LinearMap:
    """A linear map without parameters: its tangent is itself, and so is its transpose's.

    `apply` is the map, `transpose` takes a gradient and the shape of one task's input.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    transpose: Callable[[Tensor, torch.Size], Tensor]

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        cache.primal = xs[0].shape[1:]
        return self.apply(xs[0])

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [self.transpose(gy, cache.primal) if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        return None if txs[0] is None else self.apply(txs[0])


def _to_vector(x: Tensor) -> Tensor:
    """Images [T, N, H, W, C] -> [T, N, C * H * W], in the order torch flattens them."""
    return x.permute(0, 1, 4, 2, 3).flatten(2) if x.dim() == 5 else x


def _to_image(g: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) == 2:
        return g
    N, H, W, C = shape
    return g.view(len(g), N, C, H, W).permute(0, 1, 3, 4, 2)


FLATTEN = LinearMap("flatten", _to_vector, _to_image)
GLOBAL_AVERAGE = LinearMap(
    "average over the image",
    lambda x: x.mean((2, 3), keepdim=True),
    lambda g, shape: (g / (shape[1] * shape[2])).expand(len(g), *shape),
)
SAME = LinearMap("identity", lambda x: x, lambda g, shape: g)


@dataclass(frozen=True)
class Sum:
    """a + b, the end of a residual branch."""

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        return xs[0] + xs[1]

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [gy if w else None for w in wanted], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        return add(txs[0], txs[1])


@dataclass(frozen=True)
class MaxPool:
    """Max-pool by itself; ties go to the first of a window, as in torch."""

    pool: Pool

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        values, where = self.pool.select(xs[0])
        cache.primal = (xs[0], where)
        return values

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        x, where = cache.primal
        return [scatter(gy, where, x) if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        return None if txs[0] is None else gather(txs[0].contiguous(), cache.primal[1])


@dataclass(frozen=True)
class Norm:
    """Batch norm, and what follows it, as one block; see norm_block.py."""

    block: NormBlock

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        out, cache.primal = self.block.forward(xs[0], p["weight"], p["bias"])
        return out

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        gz, weight, bias = self.block.backward(cache.primal, gy)
        return [gz], {"weight": weight, "bias": bias}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        tz = torch.zeros_like(cache.primal.z) if txs[0] is None else txs[0]
        ta, cache.tangent = self.block.tangent(cache.primal, tz, tp.get("weight"), tp.get("bias"))
        return ta

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        tgz, weight, bias = self.block.tangent_backward(cache.primal, cache.tangent, gy, tgy)
        return [tgz], {"weight": weight, "bias": bias}
