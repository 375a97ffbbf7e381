"""Layers that a method adds to a network: a context that adapts, maps that never do."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Square = TypeVar("Square", nn.Linear, nn.Conv2d)


class Context(nn.Module):
    """Appends a context [n], zero at first, to every input (CAVIA, Zintgraf et al. 2019)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.arguments = (n,)
        self.context = nn.Parameter(torch.zeros(n))

    def forward(self, x: Tensor) -> Tensor:
        """[N, features] -> [N, features + n]."""
        return torch.cat([x, self.context.expand(len(x), -1)], 1)


class FiLM(nn.Module):
    """Scales and shifts channels by a linear map of a context [n], zero at first (Perez et al.
    2018; so CAVIA has it)."""

    def __init__(self, n: int, channels: int) -> None:
        super().__init__()
        self.arguments = (n, channels)
        self.context = nn.Parameter(torch.zeros(n))
        self.scale = nn.Linear(n, channels)
        self.shift = nn.Linear(n, channels)
        nn.init.ones_(self.scale.bias)
        nn.init.zeros_(self.shift.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> the same."""
        scale, shift = self.scale(self.context), self.shift(self.context)
        out: Tensor = x * scale[:, None, None] + shift[:, None, None]
        return out


def t_layer(layer: Square) -> Square:
    """A square layer made the identity: T of T-nets (Lee and Choi 2018), which tasks share."""
    with torch.no_grad():
        weight = layer.weight
        weight.copy_(torch.eye(weight.shape[0]).reshape(weight.shape))
    return layer
