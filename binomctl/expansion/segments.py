"""One Hessian for each segment of the path, and the power of its factor by Krylov steps.

Over a segment of n steps A_lo ... A_hi w is about A_mid^n w, the midpoint rule for Hessians that
change slowly, and A^n w lies, but for little, in the span of w, A w, ..., A^{s-1} w: with Q an
orthonormal basis of it, |w| Q^T (Q A Q^T)^n e_1. A segment costs s products at one linearisation,
however long it is, and no power grows that A_mid^n does not have.
"""

from __future__ import annotations

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError
from binomctl.expansion.binomial import started
from binomctl.expansion.deflation import bounds, middle
from binomctl.expansion.kept import factor
from binomctl.expansion.orthonormal import krylov_basis


def krylov_adjoints(adapted: Adapted, segments: int, s: int) -> Tensor:
    """w_0 .. w_K [B, K+1, D], by at most `segments` times s products.

    Raises:
        ConfigError: outer losses at several steps.
    """
    if adapted.sources:
        raise ConfigError(
            "powers of one factor know the outer loss at phi^K alone",
            "Leave adaptation.step_losses at last, or use an expansion.",
            key="adaptation.step_losses",
        )
    w = started(adapted)
    for lo, hi in reversed(bounds(adapted.K, segments)):
        at = middle(lo, hi)
        if hi - lo <= s:  # as many products as the Krylov space would cost: the power itself
            for k in reversed(range(lo, hi)):
                w[:, k] = factor(adapted, w[:, k + 1], at)
            continue
        for n, power in enumerate(_powers(adapted, at, w[:, hi], s, hi - lo), 1):
            w[:, hi - n] = power
    return w


def _powers(adapted: Adapted, k: int, w: Tensor, s: int, n: int) -> list[Tensor]:
    """A_k w, A_k^2 w, ..., A_k^n w, [B, D] each, by s Arnoldi steps from w."""
    Q, images = krylov_basis(lambda q: factor(adapted, q, k), w, s)
    small = Q @ images.mT  # Q A Q^T
    c = torch.zeros_like(small[..., :1])
    c[:, 0] = w.norm(dim=-1, keepdim=True)
    out = []
    for _ in range(n):
        c = small @ c
        out.append((c * Q).sum(1))
    return out
