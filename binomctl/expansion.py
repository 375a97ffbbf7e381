"""The truncated binomial expansion that every expansion estimator is a case of.

With A_k = I - alpha H_k, and S_j(k) the part of A_k A_{k+1} ... A_{K-1} g of order at most j in
alpha, the recursion S_j(k) = S_j(k+1) - alpha H_k S_{j-1}(k+1), S_0 = g, gives

    S_L(K-C) = sum over j = 0..L of (-alpha)^j sum over K-C <= k_1 < ... < k_j < K of
               H_{k_1} ... H_{k_j} g,

equation (39) of BinomGBML: equation (8) for C = K, the truncated product for L = C, the exact
meta-gradient for L = C = K and g for L = 0. Every legal order of evaluation costs L (C-L+1)
Hessian-vector products; two of them are written down here and the engine says which suits it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.errors import ConfigError


def binomial_expansion(adapted: Adapted, which: Expansion) -> Tensor:
    """S_L(K-C) [B, d]: order L of the expansion over the last C inner steps, 0 <= L <= C <= K."""
    L, C, alpha = which.L, which.C, which.alpha
    if L == 0:
        return adapted.g
    expand = _by_rows if adapted.curvature.order == "rows" else _by_columns
    return expand(adapted, L, C, alpha)


def _by_columns(adapted: Adapted, L: int, C: int, alpha: float) -> Tensor:
    """The cascade of Theorem 3.2: L sequential levels of C-L+1 products at different points.

    Level l turns V[:, p] = S_l(K-C + L-l+p) into S_{l+1}(K-C + L-1-l+p). Algorithm 1 of the paper
    is printed with Hessian indices one too high; these are the indices of its Theorem 3.2.
    """
    first = adapted.K - C
    P = C - L + 1
    V = adapted.g.unsqueeze(1).expand(-1, P, -1)
    for level in range(L):
        k = first + L - 1 - level
        U = adapted.hvp(range(k, k + P), V)
        # Column p subtracts U[:, p] + ... + U[:, P-1]; one column needs no sum.
        total = U.flip(1).cumsum(1).flip(1) if P > 1 else U
        V = torch.sub(V[:, -1:], total, alpha=alpha)
    return V[:, 0]


def _by_rows(adapted: Adapted, L: int, C: int, alpha: float) -> Tensor:
    """The same numbers, one H_k at a time: the last of the rows' S_L(k)."""
    for _, top in _rows(adapted, L, C, alpha):
        last = top
    return last


def _rows(adapted: Adapted, L: int, C: int, alpha: float) -> Iterator[tuple[int, Tensor]]:
    """k and S_L(k) [B, d] for k = K-1 down to K-C: one H_k at a time, applied to all it is owed.

    At row k only orders j with L - (k - (K-C)) <= j <= K-k are new or still needed; orders above
    K-k coincide with order K-k, because only K-k Hessians have been met.
    """
    first = adapted.K - C
    S = {0: adapted.g}
    for k in reversed(range(first, adapted.K)):
        top = min(L, adapted.K - k)
        orders = range(max(L - (k - first), 1), top + 1)
        below = [S[j - 1] for j in orders]
        V = torch.stack(below, dim=1) if len(below) > 1 else below[0].unsqueeze(1)
        U = adapted.hvp([k] * len(orders), V)
        scaled = alpha * U
        S |= {
            j: torch.sub(S.get(j, S[j - 1]), scaled[:, i], out=scaled[:, i])
            for i, j in enumerate(orders)
        }
        yield k, S[top]
        S = {j: v for j, v in S.items() if j >= L - (k - first)}  # what lower rows still take


def binomial_adjoints(adapted: Adapted, which: Expansion) -> Tensor:
    """w_0 .. w_K [B, K+1, d] of the expansion: the same order L of every tail product.

    w_k = S_L(k) for k > K-C; w_0 = S_L(K-C), the meta-gradient. Steps before the last C are cut
    off, as in truncated backpropagation: their w is zero. The rows of the meta-gradient pass by
    all of them, so they cost nothing more.
    """
    L, C, K = which.L, which.C, adapted.K
    w = adapted.g.new_zeros(adapted.g.shape[0], K + 1, adapted.g.shape[1])
    if L == 0:
        w[:, 0] = adapted.g
        w[:, K - C + 1 :] = adapted.g.unsqueeze(1)
        return w
    w[:, K] = adapted.g
    for k, top in _rows(adapted, L, C, which.alpha):
        w[:, k if k > K - C else 0] = top
    return w


def scaled_alpha(K: int, alpha: float, L: int, scaling: str) -> float:
    """alpha' of the expansion: alpha, or L alpha / K when scaling is "paper" (appendix C.2)."""
    return L * alpha / K if scaling == "paper" else alpha


def elementary_rows(adapted: Adapted) -> list[Tensor]:
    """e_j(k), j = 0..K-k, for k = 0..K: [B, K-k+1, d] each, by K (K+1) / 2 products.

    e_j(k) is the sum over k <= k_1 < ... < k_j < K of H_{k_1} ... H_{k_j} g, by the recursion
    e_j(k) = e_j(k+1) + H_k e_{j-1}(k+1). `combine` makes any expansion of them.
    """
    rows = [adapted.g.unsqueeze(1)]
    for k in reversed(range(adapted.K)):
        below = rows[-1]
        products = adapted.hvp([k] * below.shape[1], below)
        padded = torch.cat([below, torch.zeros_like(below[:, :1])], dim=1)
        rows.append(torch.cat([padded[:, :1], padded[:, 1:] + products], dim=1))
    return rows[::-1]


def combine(rows: list[Tensor], which: Expansion) -> Tensor:
    """S_L(K-C) = sum over j <= L of (-alpha)^j e_j(K-C), [B, d]; in float64, for it cancels."""
    row = rows[len(rows) - 1 - which.C]
    powers = [(-which.alpha) ** j for j in range(which.L + 1)]
    return torch.einsum("j,bjd->bd", row.new_tensor(powers), row[:, : which.L + 1])


def check_order(L: int, K: int | None = None) -> None:
    """Refuse an order outside 0 <= L <= K; K is None while it is not known yet.

    Raises:
        ConfigError: with the value and the valid range.
    """
    if L < 0:
        raise ConfigError(
            f"L = {L} is negative",
            "L counts orders: 0 is first order, K is exact.",
            key="estimator.L",
        )
    if K is not None and L > K:
        raise ConfigError(
            f"L = {L} is greater than K = {K}, the number of inner steps",
            f"Choose L between 0 and {K} (L = K is exact MAML), or raise adaptation.K.",
            key="estimator.L",
        )
