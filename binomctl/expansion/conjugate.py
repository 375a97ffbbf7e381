"""Conjugate gradients on the tasks of a batch, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    x: Tensor,
    r: Tensor,
    steps: int,
    *,
    rounding: bool = False,
) -> Iterator[Tensor]:
    """The iterates of A x = b, [B, d] after each step.

    Args:
        apply: v [B, d] -> A v, symmetric.
        x: where it begins; r: b - A x there.
        rounding: a task is solved once its residual is rounding, and one whose direction A maps to
            no curvature stays where it is; otherwise it is solved at 0 alone, and such a division
            shows.
    """
    p, rr = r, (r * r).sum(-1, keepdim=True)
    solved = torch.finfo(r.dtype).eps ** 2 * rr if rounding else torch.zeros_like(rr)
    for _ in range(steps):
        Ap = apply(p)
        pAp = (p * Ap).sum(-1, keepdim=True)
        going = rr > solved
        if rounding:
            going = going & (pAp != 0)
        a = torch.where(going, rr / pAp, 0.0)
        x, r = x + a * p, r - a * Ap
        yield x
        new = (r * r).sum(-1, keepdim=True)
        p = torch.where(going, r + new / rr * p, p)
        rr = new
