"""An expansion whose Hessians are asked for at a few steps and interpolated between them.

Along a long smooth path u_k = B_k S_{j-1}(k+1) changes slowly with k: L q products and L levels
serve whatever K.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.expansion.binomial import started
from binomctl.expansion.levels import carried, level


def nodes(K: int, q: int) -> list[int]:
    """At most q of the steps 0 .. K-1, where Chebyshev polynomials have their zeros."""
    at = ((1 - math.cos((2 * i + 1) / (2 * q) * math.pi)) / 2 * (K - 1) for i in range(q))
    return sorted({round(x) for x in at})


def quadrature_adjoints(adapted: Adapted, L: int, q: int) -> Tensor:
    """w_0 .. w_K [B, K+1, D] of order L, by L times at most q products."""
    ks = nodes(adapted.K, q)
    weights = _between(adapted.K, ks).to(adapted.g)
    w = level(adapted, None)
    for _ in range(L):
        U = adapted.alpha * adapted.hvp(ks, w[:, [k + 1 for k in ks]])
        every = torch.einsum("kp,bpd->kbd", weights, U)
        w = carried(adapted, started(adapted), adapted.K, every.__getitem__)
    return w


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
