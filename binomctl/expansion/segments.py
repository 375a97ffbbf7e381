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
from binomctl.expansion.deflation import bounds, middle


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
    w = adapted.g.new_empty(len(adapted.g), adapted.K + 1, adapted.g.shape[1])
    w[:, adapted.K] = adapted.g
    for lo, hi in reversed(bounds(adapted.K, segments)):
        at = middle(lo, hi)
        if hi - lo <= s:  # as many products as the Krylov space would cost: the power itself
            for k in reversed(range(lo, hi)):
                w[:, k] = _applied(adapted, at, w[:, k + 1])
            continue
        for n, power in enumerate(_powers(adapted, at, w[:, hi], s, hi - lo), 1):
            w[:, hi - n] = power
    return w


def _applied(adapted: Adapted, k: int, w: Tensor) -> Tensor:
    V = w.unsqueeze(1)
    return (adapted.carry([k], V) - adapted.alpha * adapted.hvp([k], V))[:, 0]


def _powers(adapted: Adapted, k: int, w: Tensor, s: int, n: int) -> list[Tensor]:
    """A_k w, A_k^2 w, ..., A_k^n w, [B, D] each, by s Arnoldi steps from w."""
    tiny = torch.finfo(w.dtype).tiny
    size = w.norm(dim=-1, keepdim=True)
    basis: list[Tensor] = []
    images: list[Tensor] = []
    v, largest = w, size
    for _ in range(s):
        for _ in range(2):  # once more: rounding spoils the first time
            for q in basis:
                v = v - (v * q).sum(-1, keepdim=True) * q
        length = v.norm(dim=-1, keepdim=True)
        # What is left of a space that A maps into itself is rounding: no direction.
        there = length > 1e3 * torch.finfo(w.dtype).eps * largest
        q = torch.where(there, v / length.clamp_min(tiny), 0.0)
        v = _applied(adapted, k, q)
        largest = torch.maximum(largest, v.norm(dim=-1, keepdim=True))
        basis.append(q)
        images.append(v)
    Q = torch.stack(basis, 1)  # [B, s, D]
    small = Q @ torch.stack(images, 1).mT  # Q A Q^T
    c = torch.zeros_like(small[..., :1])
    c[:, 0] = size
    out = []
    for _ in range(n):
        c = small @ c
        out.append((c * Q).sum(1))
    return out
