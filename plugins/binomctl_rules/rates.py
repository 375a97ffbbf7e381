"""Step sizes of their own for every inner step and every layer (Antoniou et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.flat import Layout
from binomctl.options import option, plugin
from binomctl.ranges import check_count


@plugin
@dataclass(frozen=True)
class Rates:
    """One meta-learned step size per inner step and parameter tensor (LSLR of MAML++).

    m [steps x tensors] is relative to alpha and starts at 1, so that one meta learning rate suits
    any alpha. Steps beyond the last, at test time say, take the last one's.
    """

    steps: int = option(5, "inner steps with rates of their own: K, as a rule")
    per_layer: bool = option(True, "a rate per parameter tensor; false: one for all of them")

    def __post_init__(self) -> None:
        check_count("steps", self.steps, "rule.steps")

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        return torch.ones(self.steps * (len(layout.names) if self.per_layer else 1))

    def direction(self, k: int, m: Tensor, phi: Tensor, gamma: Tensor, layout: Layout) -> Tensor:
        """u = r_k gamma, r_k one number per tensor."""
        rates = m.view(self.steps, -1)[min(k, self.steps - 1)]
        if not self.per_layer:
            return rates * gamma
        parts = zip(rates, layout.sizes, strict=True)
        return torch.cat([rate.expand(size) for rate, size in parts]) * gamma
