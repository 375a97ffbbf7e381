"""Gradient descent: M is the identity, or leaves chosen parameters out of adaptation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.flat import Layout
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class GradientDescent:
    """Plain gradient descent on every parameter, the inner loop of MAML."""

    fixed: tuple[str, ...] = option(
        (), "patterns of parameters that are meta-learned but not adapted, ['norm*.bias'] say"
    )

    @property
    def plain(self) -> bool:
        return not self.fixed

    def initial(self, layout: Layout) -> Tensor:
        if self.fixed:
            layout.others(self.fixed)  # refuse what matches nothing, or everything
        return torch.empty(0)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v if self.plain else v * (1 - layout.mask(self.fixed, v))

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return self.apply(m, v, layout)
