"""Meta-SGD: M = diag(s), one meta-learned learning rate per parameter (Li et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.errors import ConfigError
from binomctl.flat import Layout
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class MetaSGD:
    """One meta-learned step size alpha s_i per parameter (Li et al. 2017).

    s is relative to alpha and starts at `initial_scale`, so that one meta learning rate suits
    any alpha.
    """

    initial_scale: float = option(1.0, "s before meta-training; the step size is alpha s")

    def __post_init__(self) -> None:
        if self.initial_scale == 0:
            raise ConfigError("initial_scale = 0 would adapt nothing", key="rule.initial_scale")

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        return torch.full((layout.d,), self.initial_scale)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v * m

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v * m
