"""What an expansion neglects, measured by one more level.

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
