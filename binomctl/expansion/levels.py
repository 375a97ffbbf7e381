"""Orders of the expansion one after another, all steps of one side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.expansion.binomial import started, with_source


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
    if before is None:
        return carried(adapted, started(adapted), adapted.K)
    top = adapted.K - order
    U = adapted.alpha * adapted.hvp(range(top), before[:, 1 : top + 1])
    return carried(adapted, before.clone(), top, lambda k: U[:, k])


def carried(
    adapted: Adapted, w: Tensor, top: int, less: Callable[[int], Tensor] | None = None
) -> Tensor:
    """w with w_k = P_k w_{k+1} - less(k) + c_k g_k written in place, for k = top-1 .. 0."""
    for k in reversed(range(top)):
        v = adapted.carry([k], w[:, k + 1 : k + 2])[:, 0]
        w[:, k] = with_source(adapted, v if less is None else v - less(k), k)
    return w
