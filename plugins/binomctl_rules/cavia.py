"""CAVIA: only a context adapts (Zintgraf et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from binomctl.contracts import Forward
from binomctl.errors import ConfigError
from binomctl.flat import Layout
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class CAVIA:
    """Fast context adaptation: a context starts at zero and alone adapts (Zintgraf et al. 2019).

    The network's own parameters are meta-learned and shared by all tasks. The network needs
    parameters for the context: model.context=N makes them in mlp and conv4.
    """

    context: tuple[str, ...] = option(
        ("context", "*.context"), "patterns of the context's parameters"
    )

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        if not self._names(layout):
            raise ConfigError(
                f"cavia adapts parameters named {', '.join(self.context)}, and the network has"
                " none",
                "Set model.context=5 for mlp or conv4, or name those of a network of yours by"
                " rule.context.",
                key="rule.context",
            )
        return torch.empty(0)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v * layout.mask(self._names(layout), v)

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return self.apply(m, v, layout)

    def start(
        self, m: Tensor, theta: Tensor, x: Any, y: Any, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d]: theta with a context of zeros."""
        return theta * (1 - layout.mask(self._names(layout), theta))

    def _names(self, layout: Layout) -> tuple[str, ...]:
        return tuple(layout.named_like(self.context))
