"""Batch norm with the statistics of the batch, (leaky) ReLU and max-pool, as one layer.

z [T, N, H, W, C] is the input of batch norm, for T tasks or points at once; with
xh = (z - mu) inv, inv = (var + eps)^(-1/2), the output is max over each window of
act(gamma xh + beta). ReLU is monotone, so pool and ReLU change places: all work behind the
statistics is on the pooled grid. n is the count per channel, p the pooled grid:

backward   gp = ga act'(y), gb = sum gp, gg = sum gp xh, s = gamma inv,
           gz = scatter(s gp) - s/n (gb + inv gg (z - mu))
tangent    cov = mean(c(tz) xh), tinv = -inv^2 cov, txh = inv c(tz) - xh inv cov,
           ta = act'(y) (tgamma xh + gamma txh + tbeta)
tangent backward: the product rule on gz.

Here as torch operations; block.py has the same maps as kernels for a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Pool:
    """A max-pool window: kernel, stride and padding by height and width, and ceil_mode."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    @property
    def tiles(self) -> int | None:
        """k where the windows are k x k side by side, cut off at the edge; None otherwise."""
        k = self.kernel[0]
        plain = self.padding == (0, 0) and self.dilation == (1, 1) and not self.ceil_mode
        return k if plain and self.kernel == self.stride == (k, k) else None

    def select(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of each window of z [T, N, H, W, C]: values and flat places [T, N, h, w, C]
        in H * W."""
        T, N, H, W, C = z.shape
        if self.kernel == (1, 1) and self.stride == (1, 1):
            where = torch.arange(H * W, device=z.device).view(1, 1, H, W, 1).expand(T, N, H, W, C)
            return z, where
        flat = z.flatten(0, 1).permute(0, 3, 1, 2)
        values, where = F.max_pool2d(
            flat, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode, True
        )
        h, w = values.shape[2:]
        return (
            values.permute(0, 2, 3, 1).reshape(T, N, h, w, C),
            where.permute(0, 2, 3, 1).reshape(T, N, h, w, C),
        )


def gather(full: Tensor, where: Tensor) -> Tensor:
    """The entries of full [T, N, H, W, C] at flat places [T, N, h, w, C]."""
    return full.flatten(2, 3).gather(2, where.flatten(2, 3)).view(where.shape)


def scatter(pooled: Tensor, where: Tensor, like: Tensor) -> Tensor:
    """Add pooled [T, N, h, w, C] up at their places in zeros like [T, N, H, W, C]."""
    out = torch.zeros_like(like).flatten(2, 3)
    return out.scatter_add_(2, where.flatten(2, 3), pooled.flatten(2, 3)).view(like.shape)


@dataclass
class Primal:
    """What forward leaves behind; `where` are flat places in H * W. Backward adds the gradients."""

    z: Tensor
    a: Tensor
    xh: Tensor
    where: Tensor
    mu: Tensor
    inv: Tensor
    gamma: Tensor
    ggamma: Tensor | None = None
    gbeta: Tensor | None = None


@dataclass
class Tangent:
    """What the tangent forward pass leaves behind."""

    tz: Tensor
    txh: Tensor
    tmu: Tensor
    tinv: Tensor
    tgamma: Tensor | None


@dataclass(frozen=True)
class NormBlock:
    """The block's four maps. Parameters are [T, C], their tangents too, or None where fixed."""

    eps: float
    slope: float = 1.0
    pool: Pool = Pool()

    def forward(self, z: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Primal]:
        """a [T, N, h, w, C] and the cache."""
        mu = z.mean((1, 2, 3))
        shifted = z - _c(mu)
        inv = (shifted.square().mean((1, 2, 3)) + self.eps).rsqrt()
        # A negative gamma makes the smallest z the largest y; under gamma = 0 all y tie.
        sign = gamma.sign()
        _, where = self.pool.select(z * _c(sign))
        xh = gather(shifted, where) * _c(inv)
        y = _c(gamma) * xh + _c(beta)
        a = torch.where(y > 0, y, self.slope * y)
        return a, Primal(z, a, xh, where, mu, inv, gamma)

    def backward(self, at: Primal, ga: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """gz and the gradients of gamma and beta."""
        gp = self._through(at, ga)
        gbeta, ggamma = gp.sum((1, 2, 3)), (gp * at.xh).sum((1, 2, 3))
        s, n = at.gamma * at.inv, at.z[0, ..., 0].numel()
        affine = _c(-s * at.inv * ggamma / n) * (at.z - _c(at.mu)) + _c(-s * gbeta / n)
        at.ggamma, at.gbeta = ggamma, gbeta
        return scatter(_c(s) * gp, at.where, at.z) + affine, ggamma, gbeta

    def tangent(
        self, at: Primal, tz: Tensor, tgamma: Tensor | None, tbeta: Tensor | None
    ) -> tuple[Tensor, Tangent]:
        """ta and the tangents' cache."""
        tmu = tz.mean((1, 2, 3))
        cov = at.inv * (tz * (at.z - _c(at.mu))).mean((1, 2, 3))
        tinv = -at.inv.square() * cov
        txh = _c(at.inv) * (gather(tz, at.where) - _c(tmu)) - at.xh * _c(at.inv * cov)
        ty = _c(at.gamma) * txh
        if tgamma is not None:
            ty = ty + _c(tgamma) * at.xh
        if tbeta is not None:
            ty = ty + _c(tbeta)
        return self._through(at, ty), Tangent(tz, txh, tmu, tinv, tgamma)

    def tangent_backward(
        self, at: Primal, along: Tangent, ga: Tensor, tga: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tangents of what `backward`, which has run before, made of ga."""
        assert at.ggamma is not None
        assert at.gbeta is not None
        gp, tgp = self._through(at, ga), self._through(at, tga)
        tgbeta = tgp.sum((1, 2, 3))
        tggamma = (tgp * at.xh + gp * along.txh).sum((1, 2, 3))
        s, n = at.gamma * at.inv, at.z[0, ..., 0].numel()
        ts = at.gamma * along.tinv
        if along.tgamma is not None:
            ts = ts + along.tgamma * at.inv
        al = -s * at.inv * at.ggamma / n
        tal = -(ts * at.inv * at.ggamma + s * along.tinv * at.ggamma + s * at.inv * tggamma) / n
        tde = -(ts * at.gbeta + s * tgbeta) / n
        affine = _c(al) * (along.tz - _c(along.tmu)) + _c(tal) * (at.z - _c(at.mu)) + _c(tde)
        pooled = _c(ts) * gp + _c(s) * tgp
        return scatter(pooled, at.where, at.z) + affine, tggamma, tgbeta

    def _through(self, at: Primal, g: Tensor) -> Tensor:
        """act'(y) g; 0 where y = 0, as torch has it for ReLU."""
        return torch.where(at.a > 0, g, self.slope * g)


def _c(v: Tensor) -> Tensor:
    """[T, C] against [T, N, H, W, C]."""
    return v[:, None, None, None]
