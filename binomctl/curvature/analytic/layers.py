"""Layers as four maps: forward, backward, tangent, tangent backward; no autograd anywhere.

Leading axis T: tasks, or tasks x points, each with parameters of its own. Images are channels last,
[T, N, H, W, C], vectors [T, N, F]. A layer keeps what its later maps need in a cache of its own;
None stands for a tangent or a gradient that is zero. With the prefix t for tangents, one
Hessian-vector product is a tangent and a tangent-backward pass: d/de of the gradient at
parameters + e v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.curvature.analytic.norm_block import NormBlock, Pool, gather, scatter

Parameters = dict[str, Tensor]
"""A layer's own parameters by their role ("weight", "bias"), each [T, ...]."""


@dataclass
class Cache:
    """What one layer keeps of one linearisation; `tangent` of the direction at hand."""

    primal: Any = None
    tangent: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


class Layer(Protocol):
    """One node of a network; inputs and their gradients are as many as it has."""

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        """The output, and the cache filled."""
        ...

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        """Gradients of the inputs that are wanted, and of the parameters."""
        ...

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        """The tangent of the output."""
        ...

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        """Tangents of what `backward` returned."""
        ...


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two tensors that may be zero."""
    if a is None or b is None:
        return a if b is None else b
    return a + b


@dataclass(frozen=True)
class Linear:
    """y = x w^T + b."""

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        (x,) = xs
        cache.primal = x
        return _affine(x, p["weight"], p.get("bias"))

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        gradients = {"weight": gy.mT @ cache.primal}
        if "bias" in p:
            gradients["bias"] = gy.sum(1)
        return [gy @ p["weight"] if wanted[0] else None], gradients

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (tx,) = txs
        cache.tangent = tx
        ty = _affine(cache.primal, tp["weight"], tp.get("bias")) if "weight" in tp else None
        if tx is None:
            return ty
        through = p["weight"].mT
        return tx @ through if ty is None else torch.baddbmm(ty, tx, through)

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        weight = tgy.mT @ cache.primal
        if cache.tangent is not None:
            weight = torch.baddbmm(weight, gy.mT, cache.tangent)
        gradients = {"weight": weight}
        if "bias" in p:
            gradients["bias"] = tgy.sum(1)
        if not wanted[0]:
            return [None], gradients
        tgx = tgy @ p["weight"]
        return [torch.baddbmm(tgx, gy, tp["weight"]) if "weight" in tp else tgx], gradients


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


@dataclass(frozen=True)
class Activation:
    """An elementwise function, by itself and its first two derivatives in terms of x and y."""

    name: str
    function: Callable[[Tensor], Tensor]
    first: Callable[[Tensor, Tensor], Tensor]
    second: Callable[[Tensor, Tensor], Tensor] | None = None
    """None: zero wherever it exists (piecewise linear)."""
    slope: float | None = None
    """Of a (leaky) ReLU, below 0."""

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        (x,) = xs
        y = self.function(x)
        cache.primal = self.first(x, y)
        if self.second is not None:
            cache.extra["second"] = self.second(x, y)
        return y

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [gy * cache.primal if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (tx,) = txs
        cache.tangent = tx
        return None if tx is None else tx * cache.primal

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
        tgx = tgy * cache.primal
        if self.second is not None and cache.tangent is not None:
            tgx = torch.addcmul(tgx, gy * cache.extra["second"], cache.tangent)
        return [tgx], {}


def leaky(slope: float) -> Activation:
    """ReLU (slope 0) and leaky ReLU; at 0 the derivative is the slope, as torch has it."""
    if slope == 0:
        return Activation("relu", torch.relu, lambda x, y: (y > 0).to(y.dtype), slope=0.0)
    return Activation(
        "leaky_relu",
        lambda x: F.leaky_relu(x, slope),
        lambda x, y: torch.full_like(x, slope).masked_fill_(x > 0, 1.0),
        slope=slope,
    )


TANH = Activation(
    "tanh", torch.tanh, lambda x, y: 1 - y.square(), lambda x, y: -2 * y * (1 - y.square())
)
SIGMOID = Activation(
    "sigmoid",
    torch.sigmoid,
    lambda x, y: y * (1 - y),
    lambda x, y: y * (1 - y) * (1 - 2 * y),
)


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

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return self.backward(p, cache, tgy, wanted)


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

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [tgy if w else None for w in wanted], {}


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

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return self.backward(p, cache, tgy, wanted)


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
        tgz, weight, bias = self.block.tangent_backward(cache.primal, cache.tangent, tgy)
        return [tgz], {"weight": weight, "bias": bias}
