"""An orthonormal basis of a Krylov space, for every task its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def krylov_basis(apply: Callable[[Tensor], Tensor], w: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Q and the images M q of its rows, for span(w, M w, ..., M^{r-1} w): [B, r, D] each.

    Args:
        apply: M of one vector a task, [B, D] -> [B, D]; called r times.
        w: where the space begins, [B, D].

    Where M maps a smaller space into itself, the rows that it does not need are zero.
    """
    largest = w.norm(dim=-1, keepdim=True)
    Q: list[Tensor] = []
    images: list[Tensor] = []
    for _ in range(r):
        for _ in range(2):  # once more: rounding spoils the first time
            for q in Q:
                w = w - (w * q).sum(-1, keepdim=True) * q
        size = w.norm(dim=-1, keepdim=True)
        # What is left of a space that M maps into itself is rounding: no direction.
        there = size > 1e3 * torch.finfo(w.dtype).eps * largest
        q = torch.where(there, w / size.clamp_min(torch.finfo(w.dtype).tiny), 0.0)
        w = apply(q)
        largest = torch.maximum(largest, w.norm(dim=-1, keepdim=True))
        Q.append(q)
        images.append(w)
    return torch.stack(Q, 1), torch.stack(images, 1)
