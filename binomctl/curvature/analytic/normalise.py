"""Values normalised over some of their axes, and batch norm by fixed statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.curvature.analytic.layer import Cache, Parameters


@dataclass(frozen=True)
class Normalise:
    """xh = (x - mean) / sqrt(var + eps) over axes (T is axis 0); without `centred` x / rms(x).

    With inv = (var + eps)^(-1/2) and m the mean over the axes the derivative is symmetric:
    J g = inv (g - m(g) - xh m(xh g)), and inv changes by -inv^2 m(xh tx).
    """

    axes: tuple[int, ...]
    eps: float
    centred: bool = True

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        (x,) = xs
        if self._fused(x):
            xh, _, inv = torch.native_layer_norm(x, self._shape(x), None, None, self.eps)
            cache.primal = [xh, inv]
            return xh
        if self.centred:
            x = x - self._mean(x)
        inv = (self._mean(x.square()) + self.eps).rsqrt()
        xh = x * inv
        cache.primal = [xh, inv]
        return xh

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [self._through(cache, gy) if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        cache.tangent = None
        if txs[0] is None:
            return None
        ty = self._through(cache, txs[0])
        cache.tangent = [ty, self._mean(cache.primal[0] * txs[0])]
        return ty

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
        tgx = self._through(cache, tgy)
        if cache.tangent is None:
            return [tgx], {}
        (xh, inv), (txh, along) = cache.primal, cache.tangent
        tgx = tgx.addcmul_(txh, inv * self._mean(gy * xh), value=-1)
        tgx = tgx.addcmul_(xh, inv * self._mean(gy * txh), value=-1)
        return [tgx.addcmul_(self._through(cache, gy), inv * along, value=-1)], {}

    def _through(self, cache: Cache, g: Tensor) -> Tensor:
        """J g, a tensor of its own."""
        xh, inv = cache.primal
        if self._fused(xh):
            zero, one = torch.zeros_like(inv), torch.ones_like(inv)
            out: Tensor = torch.ops.aten.native_layer_norm_backward(
                g.contiguous(), xh, self._shape(xh), zero, one, None, None, [True, False, False]
            )[0]
            return out.mul_(inv)
        rest: Tensor = g - xh * self._mean(xh * g)
        return (rest - self._mean(g) if self.centred else rest).mul(inv)

    def _fused(self, x: Tensor) -> bool:
        """Whether it is torch's layer norm, whose passes are one operation each."""
        return self.centred and self.axes == tuple(range(x.dim() - len(self.axes), x.dim()))

    def _shape(self, x: Tensor) -> list[int]:
        return list(x.shape[-len(self.axes) :])

    def _mean(self, x: Tensor) -> Tensor:
        return x.mean(self.axes, keepdim=True)


@dataclass(frozen=True)
class FixedNorm:
    """y = (x - mean) / sqrt(var + eps) weight + bias by constants mean and var; weight and bias
    may be missing. Channels are at `axis` of x [T, N, ...]."""

    eps: float
    axis: int

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        (x,) = xs
        scale = self._along((p["var"] + self.eps).rsqrt(), x)
        xh = (x - self._along(p["mean"], x)) * scale
        cache.primal = [xh, scale]
        y = xh
        if "weight" in p:
            y = y * self._along(p["weight"], x)
        return y + self._along(p["bias"], x) if "bias" in p else y

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        xh, scale = cache.primal
        out = {}
        if "weight" in p:
            out["weight"] = self._sum(gy * xh)
            scale = scale * self._along(p["weight"], xh)
        if "bias" in p:
            out["bias"] = self._sum(gy)
        return [gy * scale if wanted[0] else None], out

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (xh, scale), (tx,) = cache.primal, txs
        ty: Tensor | None = None
        cache.tangent = txh = None if tx is None else tx * scale
        if txh is not None:
            ty = txh * self._along(p["weight"], xh) if "weight" in p else txh
        if "weight" in tp:
            moved = xh * self._along(tp["weight"], xh)
            ty = moved if ty is None else ty + moved
        if "bias" in tp:
            shift = self._along(tp["bias"], xh)
            ty = shift.expand(xh.shape) if ty is None else ty + shift
        return ty

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        xh, scale = cache.primal
        (tgx,), out = self.backward(p, cache, tgy, wanted)
        if "weight" in p and cache.tangent is not None:
            out["weight"] = out["weight"] + self._sum(gy * cache.tangent)
        if tgx is not None and "weight" in tp:
            tgx = tgx + gy * scale * self._along(tp["weight"], xh)
        return [tgx], out

    def _along(self, v: Tensor, x: Tensor) -> Tensor:
        """[T, C] against x."""
        return v.view(len(v), *[1] * (self.axis - 1), -1, *[1] * (x.dim() - self.axis - 1))

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum([i for i in range(1, x.dim()) if i != self.axis])


@dataclass(frozen=True)
class Softmax:
    """softmax or its logarithm over one axis (T is axis 0)."""

    axis: int
    log: bool

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        y = torch.log_softmax(xs[0], self.axis) if self.log else torch.softmax(xs[0], self.axis)
        cache.primal = y.exp() if self.log else y
        return y

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        if not wanted[0]:
            return [None], {}
        s = cache.primal
        if self.log:
            return [gy - s * self._sum(gy)], {}
        return [self._through(gy, s)], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        cache.tangent = None
        (tx,) = txs
        if tx is None:
            return None
        s = cache.primal
        cache.tangent = self._through(tx, s)
        return tx - self._sum(s * tx) if self.log else cache.tangent

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        (tgx,), _ = self.backward(p, cache, tgy, wanted)
        if tgx is None or cache.tangent is None:
            return [tgx], {}
        s, ts = cache.primal, cache.tangent
        if self.log:
            return [tgx - ts * self._sum(gy)], {}
        tgx = tgx.addcmul_(ts, gy - self._sum(s * gy))
        return [tgx.addcmul_(s, self._sum(ts * gy), value=-1)], {}

    def _through(self, g: Tensor, s: Tensor) -> Tensor:
        """s (g - sum(s g)): the derivative of softmax, which is symmetric, times g."""
        return torch._softmax_backward_data(g, s, self.axis, s.dtype)

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum(self.axis, keepdim=True)
