"""Some steps exactly, the others to order L: truncation that chooses which factors it keeps.

Truncated backpropagation keeps the last L factors A_{K-L} .. A_{K-1}. Where curvature is at the
start of adaptation, as in few-shot classification, the first ones say more; any set may be kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError
from binomctl.expansion.binomial import by_columns, last, rows, started, with_source


def exactly(adapted: Adapted, w: Tensor, ks: Iterable[int]) -> Tensor:
    """A_k of every k in ks, highest first, applied to w [B, D], outer losses on the way added."""
    for k in sorted(ks, reverse=True):
        w = factor(adapted, w, k)
    return w


def factor(adapted: Adapted, w: Tensor, k: int) -> Tensor:
    """A_k w + c_k g_k."""
    V = w.unsqueeze(1)
    w = torch.sub(adapted.carry([k], V)[:, 0], adapted.hvp([k], V)[:, 0], alpha=adapted.alpha)
    return with_source(adapted, w, k)


def kept_expansion(adapted: Adapted, kept: Collection[int], L: int) -> Tensor:
    """The kept factors in their places, the others to order L: [B, D].

    With the first m kept it costs m + L (K-m-L+1) products at depth m + L.
    """
    K, m = adapted.K, len(kept)
    if L and adapted.curvature.order == "columns" and set(kept) == set(range(m)):
        return exactly(adapted, by_columns(adapted, L, K - m, adapted.alpha), range(m))
    return last(rows(adapted, L, 0, adapted.alpha, kept))


def kept_adjoints(adapted: Adapted, kept: Collection[int], L: int) -> Tensor:
    """w_0 .. w_K [B, K+1, D]: the same of every tail product."""
    w = started(adapted)
    for k, top in rows(adapted, L, 0, adapted.alpha, kept):
        w[:, k] = top
    return w


def check_kept(kept: Collection[int], L: int, K: int, key: str) -> None:
    """Refuse steps outside 0 .. K-1 or twice, and an order above the number of other steps.

    Raises:
        ConfigError: naming them.
    """
    outside = sorted(k for k in kept if not 0 <= k < K)
    if outside or len(set(kept)) < len(kept):
        raise ConfigError(
            f"steps {list(kept)} cannot be kept of K = {K} inner steps",
            f"Name each at most once, 0 to {K - 1}.",
            key=key,
        )
    if K - len(kept) < L:
        raise ConfigError(
            f"L = {L} is greater than the {K - len(kept)} steps that are not kept of K = {K}",
            f"Choose L up to {K - len(kept)}, or keep fewer steps.",
            key="estimator.L",
        )
