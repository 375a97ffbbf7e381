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
        if self.centred:
            x = x - self._mean(x)
        inv = (self._mean(x.square()) + self.eps).rsqrt()
        xh = x * inv
        cache.primal = [xh, inv]
        return xh

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        return [self._through(cache, gy)[0] if wanted[0] else None], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        cache.tangent = None
        if txs[0] is None:
            return None
        ty, along = self._through(cache, txs[0])
        cache.tangent = [ty, along]
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
        tgx, _ = self._through(cache, tgy)
        if cache.tangent is None:
            return [tgx], {}
        (xh, inv), (txh, along) = cache.primal, cache.tangent
        gx, share = self._through(cache, gy)
        moved = inv * (txh * share + xh * self._mean(gy * txh)) + inv * along * gx
        return [tgx - moved], {}

    def _through(self, cache: Cache, g: Tensor) -> tuple[Tensor, Tensor]:
        """J g, and m(xh g)."""
        xh, inv = cache.primal
        share = self._mean(xh * g)
        rest = g - xh * share
        return inv * (rest - self._mean(g) if self.centred else rest), share

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
        return [s * (gy - self._sum(s * gy))], {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        cache.tangent = None
        (tx,) = txs
        if tx is None:
            return None
        s = cache.primal
        centred = tx - self._sum(s * tx)
        cache.tangent = s * centred
        return centred if self.log else cache.tangent

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
        return [tgx + ts * (gy - self._sum(s * gy)) - s * self._sum(ts * gy)], {}

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum(self.axis, keepdim=True)
