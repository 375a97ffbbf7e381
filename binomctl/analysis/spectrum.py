"""The spectrum of the H_k along the inner loop, by Lanczos' method on Hessian-vector products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.contracts import Adapted

STEPS = 40  # of Lanczos; extreme eigenvalues converge long before


@dataclass(frozen=True)
class Spectrum:
    """Extremes over the tasks [B] and inner steps k [K], and how much is negative.

    highest, lowest: [B, K], eigenvalues of H_k, each with its residual on the safe side: no
    eigenvalue that Lanczos has seen lies outside. negative [B, K]: the share of negative curvature,
    the sum of |negative| over that of all |eigenvalues|, by Lanczos quadrature.
    """

    highest: Tensor
    lowest: Tensor
    negative: Tensor

    @property
    def H(self) -> Tensor:
        """The largest |curvature| at each step, [B, K]."""
        return torch.maximum(self.highest.abs(), self.lowest.abs())


def spectrum(adapted: Adapted, seed: int = 0) -> Spectrum:
    """Run Lanczos on H_0 .. H_{K-1} of every task, from one random vector each."""
    parts = [_lanczos(adapted, k, seed) for k in range(adapted.K)]
    return Spectrum(*(torch.stack(column, 1) for column in zip(*parts, strict=True)))


def _lanczos(adapted: Adapted, k: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """highest, lowest and negative share [B] of H_k."""
    B, d = adapted.g.shape
    m = min(STEPS, d)
    random = torch.Generator().manual_seed(seed * 1_000_003 + k)
    q = torch.randn(B, d, generator=random, dtype=torch.float64).to(adapted.g)
    q = q / q.norm(dim=-1, keepdim=True)
    basis: list[Tensor] = []
    diagonal, beside = [], []
    for _ in range(m):
        basis.append(q)
        w = adapted.hvp([k], q.unsqueeze(1))[:, 0]
        diagonal.append((w * q).sum(-1))
        stacked = torch.stack(basis, 1)
        for _ in range(2):  # full reorthogonalisation, twice, keeps Ritz values from repeating
            w = w - torch.einsum("bi,bid->bd", torch.einsum("bid,bd->bi", stacked, w), stacked)
        beside.append(w.norm(dim=-1))
        q = w / beside[-1].clamp_min(torch.finfo(w.dtype).tiny).unsqueeze(-1)
    a = torch.stack(diagonal, 1).cpu().double()
    b = torch.stack(beside, 1).cpu().double()
    rows = [_extremes(a[i], b[i]) for i in range(B)]
    high, low, negative = (torch.tensor(c, dtype=torch.float64) for c in zip(*rows, strict=True))
    return high.to(adapted.g), low.to(adapted.g), negative.to(adapted.g)


def _extremes(a: Tensor, b: Tensor) -> tuple[float, float, float]:
    """From the tridiagonal matrix: highest, lowest, negative share; cut where it breaks down."""
    scale = float(a.abs().max().clamp_min(1e-300))
    small = (b <= 1e-10 * scale).nonzero()
    n = int(small[0]) + 1 if len(small) else len(a)
    T = torch.diag(a[:n]) + torch.diag(b[: n - 1], 1) + torch.diag(b[: n - 1], -1)
    values, vectors = torch.linalg.eigh(T)
    residual = b[n - 1] * vectors[-1].abs()
    weights = vectors[0] ** 2
    total = (weights * values.abs()).sum().clamp_min(1e-300)
    share = (weights * values.clamp(max=0).abs()).sum() / total
    return (
        float((values + residual)[-1]),
        float((values - residual)[0]),
        float(share),
    )
