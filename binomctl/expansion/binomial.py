"""The truncated binomial expansion that every expansion estimator is a case of.

The adjoint of an inner step is A_k = P_k - alpha B_k: P_k the part that passes by the Hessian
(`carry`, the identity under gradient descent), B_k the part through it (`hvp`, H_k M^T there). With
S_j(k) the part of A_k A_{k+1} ... A_{K-1} g of order at most j in B, and outer losses c_k g_k on
the way,

    S_j(k) = P_k S_j(k+1) - alpha B_k S_{j-1}(k+1) + c_k g_k,    S_j(K) = c_K g_K.

Under gradient descent with one outer loss S_L(K-C) is

    sum over j = 0..L of (-alpha)^j sum over K-C <= k_1 < ... < k_j < K of H_{k_1} ... H_{k_j} g,

equation (39) of BinomGBML: equation (8) for C = K, the truncated product for L = C, the exact
meta-gradient for L = C = K and g for L = 0. Every legal order of evaluation costs L (C-L+1)
Hessian-vector products; two of them are written down here and the engine says which suits it.
Steps before the last C have no Hessian, and are passed by P_k alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from binomctl.contracts import Adapted, Expansion, PullsBack
from binomctl.contracts.abilities import has
from binomctl.errors import ConfigError


def binomial_expansion(adapted: Adapted, which: Expansion) -> Tensor:
    """S_L(0) [B, D]: order L of the expansion over the last C inner steps, 0 <= L <= C <= K."""
    L, C = which.L, which.C
    if L == 0:
        return passed_by(adapted, adapted.g, adapted.K)
    if has(adapted.curvature, PullsBack) and adapted.plain and not adapted.sources:
        last_steps = range(adapted.K - C, adapted.K)
        return adapted.curvature.pull_back(last_steps, adapted.g, L, which.alpha)
    expand = _by_rows if adapted.curvature.order == "rows" else by_columns
    return passed_by(adapted, expand(adapted, L, C, which.alpha), adapted.K - C)


def passed_by(adapted: Adapted, w: Tensor, k: int) -> Tensor:
    """P_0 ... P_{k-1} w [B, D], with the outer losses on the way: steps without their Hessians."""
    if adapted.sums and not adapted.sources:
        return w
    for at in reversed(range(k)):
        w = past(adapted, w, at)
    return w


def past(adapted: Adapted, w: Tensor, k: int) -> Tensor:
    """P_k w + c_k g_k: one step past its Hessian."""
    return with_source(adapted, adapted.carry([k], w.unsqueeze(1))[:, 0], k)


def with_source(adapted: Adapted, w: Tensor, k: int) -> Tensor:
    """w [B, D] with the outer loss at phi^k."""
    source = adapted.sources.get(k)
    if source is None:
        return w
    return torch.cat([w[:, : source.shape[1]] + source, w[:, source.shape[1] :]], 1)


def by_columns(adapted: Adapted, L: int, C: int, alpha: float) -> Tensor:
    """The cascade of Theorem 3.2: L sequential levels of C-L+1 products at different points.

    Level l turns V[:, p] = S_l(K-C + L-l+p) into S_{l+1}(K-C + L-1-l+p). Algorithm 1 of the paper
    is printed with Hessian indices one too high; these are the indices of its Theorem 3.2.
    """
    first = adapted.K - C
    P = C - L + 1
    sums = adapted.sums and not adapted.sources
    V = _first_level(adapted, first + L, P)
    for level in range(L):
        k = first + L - 1 - level
        U = adapted.hvp(range(k, k + P), V)
        if sums:
            # Column p subtracts U[:, p] + ... + U[:, P-1]; one column needs no sum.
            total = U.flip(1).cumsum(1).flip(1) if P > 1 else U
            V = torch.sub(V[:, -1:], total, alpha=alpha)
            continue
        w, columns = V[:, -1], []  # orders l and l+1 agree where only l Hessians were met
        for p in reversed(range(P)):
            w = adapted.carry([k + p], w.unsqueeze(1))[:, 0] - alpha * U[:, p]
            w = with_source(adapted, w, k + p)
            columns.append(w)
        V = torch.stack(columns[::-1], 1)
    return V[:, 0]


def _first_level(adapted: Adapted, k: int, P: int) -> Tensor:
    """S_0 at k .. k + P - 1 = K, [B, P, D]."""
    if adapted.sums and not adapted.sources:
        return adapted.g.unsqueeze(1).expand(-1, P, -1)
    columns = [adapted.g]
    for at in reversed(range(k, k + P - 1)):
        columns.append(past(adapted, columns[-1], at))
    return torch.stack(columns[::-1], 1)


def _by_rows(adapted: Adapted, L: int, C: int, alpha: float) -> Tensor:
    """The same numbers, one H_k at a time: the last of the rows' S_L(k)."""
    return last(rows(adapted, L, adapted.K - C, alpha))


def last(found: Iterator[tuple[int, Tensor]]) -> Tensor:
    """The value at the lowest k."""
    for _, value in found:
        at = value
    return at


def rows(
    adapted: Adapted, L: int, first: int, alpha: float, kept: Collection[int] = ()
) -> Iterator[tuple[int, Tensor]]:
    """k and S_L(k) [B, D] for k = K-1 down to first: one H_k at a time, applied to all it is owed.

    At row k only orders j with L - below <= j <= met are new or still needed, where below steps
    under k and met ones from k on are expanded; orders above met coincide with order met, because
    only so many Hessians have been met. Steps that are kept are exact in every order.
    """
    kept = frozenset(kept)
    S, met = {0: adapted.g}, 0
    below = sum(k not in kept for k in range(first, adapted.K))
    for k in reversed(range(first, adapted.K)):
        if k in kept:
            factors = adapted.hvp([k] * len(S), torch.stack(list(S.values()), 1))
            carried = _carried(adapted, S, k)
            S = {j: torch.sub(v, factors[:, i], alpha=alpha)
                 for i, (j, v) in enumerate(carried.items())}  # fmt: skip
        else:
            met, below = met + 1, below - 1
            top = min(L, met)
            orders = range(max(L - below, 1), top + 1)
            products = _products(adapted, S, orders, k)
            S = _carried(adapted, S, k)
            S |= {
                j: torch.sub(S.get(j, S[j - 1]), products[:, i], alpha=alpha)
                for i, j in enumerate(orders)
            }
        if k in adapted.sources:
            S = {j: with_source(adapted, v, k) for j, v in S.items()}
        yield k, S[min(L, met)]
        S = {j: v for j, v in S.items() if j >= L - below}  # what lower rows still take


def _products(adapted: Adapted, S: dict[int, Tensor], orders: Sequence[int], k: int) -> Tensor:
    """B_k S_{j-1} for the orders j, [B, their number, D]."""
    if not orders:
        return adapted.g.unsqueeze(1)[:, :0]
    parts = [S[j - 1] for j in orders]
    V = torch.stack(parts, dim=1) if len(parts) > 1 else parts[0].unsqueeze(1)
    return adapted.hvp([k] * len(orders), V)


def _carried(adapted: Adapted, S: dict[int, Tensor], k: int) -> dict[int, Tensor]:
    if adapted.sums:
        return S
    V = adapted.carry([k] * len(S), torch.stack(list(S.values()), 1))
    return dict(zip(S, V.unbind(1), strict=True))


def started(adapted: Adapted) -> Tensor:
    """Room for w_0 .. w_K [B, K+1, D]: w_K = g, the others zero."""
    w = adapted.g.new_zeros(len(adapted.g), adapted.K + 1, adapted.g.shape[1])
    w[:, adapted.K] = adapted.g
    return w


def binomial_adjoints(adapted: Adapted, which: Expansion, *, cut: bool = True) -> Tensor:
    """w_0 .. w_K [B, K+1, D] of the expansion: the same order L of every tail product.

    w_k = S_L(k) for k > K-C; w_0 = S_L(0), the meta-gradient. The rows of the meta-gradient pass by
    all of them, so they cost nothing more.

    Args:
        cut: steps before the last C are cut off, as in truncated backpropagation: their w is zero.
            Otherwise w is passed by them as w_0 is.
    """
    L, C, K = which.L, which.C, adapted.K
    w, w_k = started(adapted), adapted.g
    if L:
        for k, w_k in rows(adapted, L, K - C, which.alpha):
            w[:, k] = w_k
    else:
        for k in reversed(range(K - C, K)):
            w_k = past(adapted, w_k, k)
            w[:, k] = w_k
    if K > C and cut:
        w[:, K - C] = 0
        w[:, 0] = passed_by(adapted, w_k, K - C)
        return w
    for k in reversed(range(K - C)):
        w_k = past(adapted, w_k, k)
        w[:, k] = w_k
    return w


def scaled_alpha(K: int, alpha: float, L: int, scaling: str) -> float:
    """alpha' of the expansion: alpha, or L alpha / K when scaling is "paper" (appendix C.2)."""
    return L * alpha / K if scaling == "paper" else alpha


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
