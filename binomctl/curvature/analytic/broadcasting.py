"""Tensors [T, ...] of different rank behind T against each other."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(x: Tensor, rank: int) -> Tensor:
    """[T, *shape] with axes of 1 behind T, so that `rank` axes follow it."""
    missing = rank + 1 - x.dim()
    return x.reshape(len(x), *[1] * missing, *x.shape[1:]) if missing > 0 else x


def narrowed(g: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of broadcasting [T, *shape] to g: sums over the axes that were stretched."""
    extra = g.dim() - 1 - len(shape)
    axes = list(range(1, 1 + extra))
    axes += [i + 1 + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + 1 + extra] != 1]
    if axes:
        g = g.sum(axes, keepdim=True)
    return g.reshape(len(g), *shape)
