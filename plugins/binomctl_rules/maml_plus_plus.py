"""MAML++'s inner loop: rates and norms of their own for every step (Antoniou et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.errors import ConfigError
from binomctl.flat import Layout
from binomctl.options import option, plugin
from binomctl.ranges import check_count


@plugin
@dataclass(frozen=True)
class MAMLPlusPlus:
    """A rate per inner step and parameter tensor, and per-step weights and biases of the norms.

    The norms' parameters do not follow the gradient: from step k to k + 1 they move by -alpha m_k,
    meta-learned and zero at first (BNWB); everything else by its rate (LSLR). The other parts of
    MAML++ are options of training and adaptation: configs/methods/maml-plus-plus.yaml.
    """

    steps: int = option(5, "inner steps with parameters of their own: K, as a rule")
    norms: tuple[str, ...] = option(
        ("*norm*", "*bn*"), "patterns of the norms' parameters; []: none of their own"
    )

    def __post_init__(self) -> None:
        check_count("steps", self.steps, "rule.steps")

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        norms = layout.named_like(self.norms)
        if self.norms and not norms:
            raise ConfigError(
                f"the network has no norm: no parameter is called {' or '.join(self.norms)}",
                f"Its parameters are {', '.join(layout.names)}; set rule.norms=[] for none.",
                key="rule.norms",
            )
        moves = sum(layout.shape(name).numel() for name in norms)
        return torch.cat([torch.ones(self.steps * len(layout.names)),
                          torch.zeros(self.steps * moves)])  # fmt: skip

    def direction(self, k: int, m: Tensor, phi: Tensor, gamma: Tensor, layout: Layout) -> Tensor:
        """u = r_k gamma, m_k at the norms; steps beyond the last take the last one's."""
        n, own, k = len(layout.names), set(layout.named_like(self.norms)), min(k, self.steps - 1)
        rates = m[k * n : (k + 1) * n]
        moves = m[self.steps * n :].view(self.steps, -1)[k]
        parts, at = [], 0
        for i, (name, part) in enumerate(
            zip(layout.names, torch.split(gamma, layout.sizes), strict=True)
        ):
            if name in own:
                parts.append(moves[at : at + len(part)])
                at += len(part)
            else:
                parts.append(rates[i] * part)
        return torch.cat(parts)
