"""What an expansion neglects, measured by one more level; and levels until that is small.

The defects delta_k = A_k w_{k+1} + c_k g_k - w_k of estimates w_0 .. w_K telescope:

    A_0 ... A_{K-1} g - w_0 = sum over k of A_0 ... A_{k-1} delta_k,

so that |sum of delta_k| is the error but for the factors before it. Of order L it is exactly the
term of order L + 1 under gradient descent. One level of K products side by side gives it; at q of
the steps, q products.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from binomctl.contracts import Adapted, EstimatesError, Estimator, Expands
from binomctl.expansion.binomial import binomial_adjoints, with_source
from binomctl.expansion.quadrature import nodes


def error_estimate(adapted: Adapted, w: Tensor, products: int | None = None) -> Tensor:
    """|sum of the defects| / |w_0| of every task, [B]: an estimate of the relative error.

    Args:
        w: w_0 .. w_K [B, K+1, D], without steps that are cut off.
        products: about how many steps are looked at; None: all K.
    """
    K = adapted.K
    ks: Sequence[int] = range(K) if products is None or products >= K else nodes(K, products)
    after = w[:, 1:][:, list(ks)]
    stepped = adapted.carry(ks, after) - adapted.alpha * adapted.hvp(ks, after)
    defects = torch.zeros_like(w[:, 0])
    for p, k in enumerate(ks):
        defects += with_source(adapted, stepped[:, p], k) - w[:, k]
    size = w[:, 0].norm(dim=-1)
    found: Tensor = (K / len(ks)) * defects.norm(dim=-1) / size.clamp_min(torch.finfo(w.dtype).tiny)
    return found


def estimated_error(estimator: Estimator, adapted: Adapted) -> Tensor | None:
    """What an estimator says of its own relative error, [B]; None where it says nothing."""
    if isinstance(estimator, EstimatesError):
        return estimator.error_estimate(adapted)
    if not isinstance(estimator, Expands):
        return None
    which = estimator.expansion(adapted.K, adapted.alpha)
    return error_estimate(adapted, binomial_adjoints(adapted, which, cut=False))


def until(adapted: Adapted, tolerance: float, most: int) -> tuple[Tensor, int, Tensor]:
    """Levels of the expansion until the last one changed no task by more than a share of it.

    Args:
        tolerance: of |S_l(0) - S_{l-1}(0)| / |S_l(0)|.
        most: levels at most, up to K.

    Returns:
        w_0 .. w_K [B, K+1, D] of the last order, that order, and the last changes [B].
    """
    w = level(adapted, None)
    change = torch.full_like(w[:, 0, 0], torch.inf)
    order = 0
    while order < most:
        w, before = level(adapted, w, order), w
        order += 1
        size = w[:, 0].norm(dim=-1).clamp_min(torch.finfo(w.dtype).tiny)
        change = (w[:, 0] - before[:, 0]).norm(dim=-1) / size
        if bool((change <= tolerance).all()):
            break
    return w, order, change


def level(adapted: Adapted, before: Tensor | None, order: int = 0) -> Tensor:
    """S_{j+1}(0) .. S_{j+1}(K) [B, K+1, D] of S_j(0) .. S_j(K), by K - order products side by side.

    Args:
        before: of order j; None makes order 0, without products.
        order: orders up to which `before` is known to be exact: from K - order on it stays.
    """
    K = adapted.K
    if before is None:
        w, top, U = adapted.g.new_empty(len(adapted.g), K + 1, adapted.g.shape[1]), K, None
        w[:, K] = adapted.g
    else:
        w, top = before.clone(), K - order
        U = adapted.alpha * adapted.hvp(range(top), before[:, 1 : top + 1])
    for k in reversed(range(top)):
        v = adapted.carry([k], w[:, k + 1 : k + 2])[:, 0]
        w[:, k] = with_source(adapted, v if U is None else v - U[:, k], k)
    return w
