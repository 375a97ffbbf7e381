"""RMSprop (Tieleman and Hinton 2012), afresh in every task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.errors import ConfigError
from binomctl.options import check_not_negative, check_shares, option, plugin


@plugin
@dataclass(frozen=True)
class RMSprop:
    """u over the root of its running mean square, as torch.optim.RMSprop has it.

    Where u has been exactly 0 so far the root has no derivative; it is taken to be 0.
    """

    decay: float = option(0.99, "of the mean square, 0 <= decay < 1")
    epsilon: float = option(1e-8, "added to the root")
    epsilon_root: float = option(0.0, "added to the mean square, inside the root")
    momentum: float = option(0.0, "share of the velocity that is kept, 0 <= momentum < 1")
    weight_decay: float = option(0.0, "added to u as weight_decay phi")

    def __post_init__(self) -> None:
        check_shares(self, "decay", "momentum", key="adaptation.optimizer")
        check_not_negative(
            self, "epsilon", "epsilon_root", "weight_decay", key="adaptation.optimizer"
        )
        if self.epsilon + self.epsilon_root == 0:
            raise ConfigError(
                "epsilon and epsilon_root are both 0: a gradient of 0 would be divided by 0",
                key="adaptation.optimizer.epsilon",
            )

    @property
    def plain(self) -> bool:
        return False

    @property
    def slots(self) -> int:
        return 2 if self.momentum else 1

    @property
    def shifts(self) -> str:
        return "weight decay moves its resting point" if self.weight_decay else ""

    def step(self, k: int, s: Tensor, u: Tensor, alpha: float) -> Tensor:
        """s holds phi, the mean square, and the velocity where there is momentum."""
        if self.weight_decay:
            u = u + self.weight_decay * s[0]
        square = self.decay * s[1] + (1 - self.decay) * u**2
        inside = square + self.epsilon_root
        some = inside > 0
        root = torch.where(some, torch.where(some, inside, 1.0).sqrt(), 0.0)
        ratio = u / (root + self.epsilon)
        if not self.momentum:
            return torch.stack([torch.sub(s[0], ratio, alpha=alpha), square])
        velocity = self.momentum * s[2] + ratio
        return torch.stack([torch.sub(s[0], velocity, alpha=alpha), square, velocity])
