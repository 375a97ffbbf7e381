"""Gradient descent with momentum, Nesterov's included, and weight decay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.errors import ConfigError
from binomctl.options import check_not_negative, check_shares, option, plugin


@plugin
@dataclass(frozen=True)
class SGD:
    """phi - alpha v with velocity v = momentum v + u, as torch.optim.SGD has it."""

    momentum: float = option(0.0, "share of the velocity that is kept, 0 <= momentum < 1")
    nesterov: bool = option(False, "look ahead: step along u + momentum v")
    weight_decay: float = option(0.0, "added to u as weight_decay phi")

    def __post_init__(self) -> None:
        check_shares(self, "momentum", key="adaptation.optimizer")
        check_not_negative(self, "weight_decay", key="adaptation.optimizer")
        if self.nesterov and not self.momentum:
            raise ConfigError(
                "nesterov looks ahead along a velocity, and momentum = 0 has none",
                "Set momentum, 0.9 say.",
                key="adaptation.optimizer.nesterov",
            )

    @property
    def plain(self) -> bool:
        return not self.momentum and not self.weight_decay

    @property
    def slots(self) -> int:
        return 1 if self.momentum else 0

    @property
    def shifts(self) -> str:
        return "weight decay moves its resting point" if self.weight_decay else ""

    def step(self, k: int, s: Tensor, u: Tensor, alpha: float) -> Tensor:
        """Sutskever et al. 2013, in the form of torch.optim.SGD without dampening."""
        if self.weight_decay:
            u = u + self.weight_decay * s[0]
        if not self.momentum:
            return torch.sub(s, u, alpha=alpha)
        velocity = self.momentum * s[1] + u
        ahead = u + self.momentum * velocity if self.nesterov else velocity
        return torch.stack([torch.sub(s[0], ahead, alpha=alpha), velocity])
