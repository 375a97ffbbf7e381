"""An expansion whose Hessians are asked for at a few steps and interpolated between them.

Along a long smooth path u_k = B_k S_{j-1}(k+1) changes slowly with k: L q products and L levels
serve whatever K.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.expansion.binomial import with_source


def nodes(K: int, q: int) -> list[int]:
    """At most q of the steps 0 .. K-1, where Chebyshev polynomials have their zeros."""
    at = ((1 - math.cos((2 * i + 1) / (2 * q) * math.pi)) / 2 * (K - 1) for i in range(q))
    return sorted({round(x) for x in at})


def quadrature_adjoints(adapted: Adapted, L: int, q: int) -> Tensor:
    """w_0 .. w_K [B, K+1, D] of order L, by L times at most q products."""
    ks = nodes(adapted.K, q)
    weights = _between(adapted.K, ks).to(adapted.g)
    w = _level(adapted, None, weights)
    for _ in range(L):
        U = adapted.hvp(ks, w[:, [k + 1 for k in ks]])
        w = _level(adapted, U, weights)
    return w


def _level(adapted: Adapted, U: Tensor | None, weights: Tensor) -> Tensor:
    """S_j(0) .. S_j(K) from U = B_k S_{j-1}(k+1) at the nodes; None is order 0."""
    out = adapted.g.new_empty(len(adapted.g), adapted.K + 1, adapted.g.shape[1])
    w = out[:, adapted.K] = adapted.g
    for k in reversed(range(adapted.K)):
        w = adapted.carry([k], w.unsqueeze(1))[:, 0]
        if U is not None:
            w = w - adapted.alpha * torch.einsum("p,bpd->bd", weights[k], U)
        w = with_source(adapted, w, k)
        out[:, k] = w
    return out


def _between(K: int, ks: list[int]) -> Tensor:
    """Row k: the weights of linear interpolation at k between the nodes, and beyond them."""
    out = torch.zeros(K, len(ks), dtype=torch.float64)
    if len(ks) == 1:
        return out + 1
    for k in range(K):
        right = min(max(sum(node <= k for node in ks), 1), len(ks) - 1)
        a, b = ks[right - 1], ks[right]
        out[k, right] = (k - a) / (b - a)
        out[k, right - 1] = 1 - out[k, right]
    return out
