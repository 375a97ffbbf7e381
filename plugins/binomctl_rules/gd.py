"""Gradient descent: M is the identity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.flat import Layout


@dataclass(frozen=True)
class GradientDescent:
    """Plain gradient descent on every parameter, the inner loop of MAML."""

    def initial(self, layout: Layout) -> Tensor:
        return torch.empty(0)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v
