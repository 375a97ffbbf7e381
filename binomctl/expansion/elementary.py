"""The parts of every order of the adjoint product, e_0 .. e_L, which weights combine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.expansion.binomial import last, started, with_source


def elementary_rows(adapted: Adapted) -> list[Tensor]:
    """e_j(k), j = 0..K-k, for k = 0..K: [B, K-k+1, D] each, by K (K+1) / 2 products.

    e_j(k) is the part of order j: under gradient descent the sum over k <= k_1 < ... < k_j < K of
    H_{k_1} ... H_{k_j} g, by e_j(k) = P_k e_j(k+1) + B_k e_{j-1}(k+1). `combine` makes any
    expansion of them.
    """
    return [adapted.g.unsqueeze(1), *(row for _, row in _rows(adapted, adapted.K))][::-1]


def elementary_sums(adapted: Adapted, L: int) -> Tensor:
    """e_0 .. e_L at k = 0, [B, L+1, D], by L K - L (L-1) / 2 products; 0 <= L <= K.

    The engine says in which order: one H_k at a time, or one level e_{j-1} -> e_j at a time, its
    points side by side.
    """
    if L == 0 or adapted.curvature.order == "rows" or not adapted.sums or adapted.sources:
        return last(_rows(adapted, L))
    K = adapted.K
    parts = [adapted.g]
    V = adapted.g.unsqueeze(1).expand(-1, K, -1)  # e_0(1) .. e_0(K)
    for j in range(1, L + 1):
        U = adapted.hvp(range(K - j + 1), V)
        sums = U.flip(1).cumsum(1).flip(1)  # column k is e_j(k)
        parts.append(sums[:, 0])
        V = sums[:, 1:]
    return torch.stack(parts, 1)


def _rows(adapted: Adapted, L: int) -> Iterator[tuple[int, Tensor]]:
    """k and e_0(k) .. e_{min(L, K-k)}(k), [B, their number, D], for k = K-1 down to 0."""
    below = adapted.g.unsqueeze(1)
    for k in reversed(range(adapted.K)):
        raised = below[:, :L]  # what has an order above it still
        carried = adapted.carry([k] * below.shape[1], below)
        if raised.shape[1] == below.shape[1]:
            carried = torch.cat([carried, torch.zeros_like(below[:, :1])], dim=1)
        first = with_source(adapted, carried[:, 0], k).unsqueeze(1)
        if raised.shape[1]:
            products = adapted.hvp([k] * raised.shape[1], raised)
            below = torch.cat([first, carried[:, 1:] + products], dim=1)
        else:
            below = first
        yield k, below


def weighed_adjoints(adapted: Adapted, L: int, weights: Callable[[int], Tensor]) -> Tensor:
    """w_0 .. w_K [B, K+1, D]: every tail product by weights of its own.

    Args:
        weights: n -> c_0 .. c_L of a tail of n steps, as `weighed` takes them.
    """
    w = started(adapted)
    for k, parts in _rows(adapted, L):
        c = weights(adapted.K - k)[:, : parts.shape[1]]
        w[:, k] = weighed(parts, adapted.alpha, c)
    return w


def combine(rows: list[Tensor], which: Expansion) -> Tensor:
    """S_L(K-C) = sum over j <= L of (-alpha)^j e_j(K-C), [B, d]; in float64, for it cancels."""
    row = rows[len(rows) - 1 - which.C]
    powers = [(-which.alpha) ** j for j in range(which.L + 1)]
    return torch.einsum("j,bjd->bd", row.new_tensor(powers), row[:, : which.L + 1])


def weighed(parts: Tensor, alpha: float, c: Tensor) -> Tensor:
    """sum over j of c_j (-alpha)^j e_j: parts [B, L+1, D], c [B, L+1] or [1, L+1] or, for every
    entry its own, [1, L+1, D] -> [B, D]."""
    powers = parts.new_tensor([(-alpha) ** j for j in range(parts.shape[1])])
    c = (c.unsqueeze(-1) if c.dim() == 2 else c).to(parts)
    return (c * powers[:, None] * parts).sum(1)
