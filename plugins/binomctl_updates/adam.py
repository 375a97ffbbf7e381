"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), afresh in every task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.errors import ConfigError
from binomctl.options import check_not_negative, check_shares, option, plugin


@plugin
@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015); every task starts with empty moments.

    Where an entry of gamma has been exactly 0 so far (a dead ReLU) its second moment is 0, and the
    square root there has no derivative. It is taken to be 0: the moments' ratio moves as its
    numerator does, divided by epsilon. `epsilon_root`, inside the root, makes it smooth instead.
    """

    beta1: float = option(0.9, "decay of the first moment, 0 <= beta1 < 1")
    beta2: float = option(0.999, "decay of the second moment, 0 <= beta2 < 1")
    epsilon: float = option(1e-8, "added to the root of the second moment")
    epsilon_root: float = option(0.0, "added to the second moment, inside the root")
    weight_decay: float = option(0.0, "added to u as weight_decay phi (the L2 term)")

    def __post_init__(self) -> None:
        check_shares(self, "beta1", "beta2", key="adaptation.optimizer")
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
        return 2

    @property
    def shifts(self) -> str:
        return "weight decay moves its resting point" if self.weight_decay else ""

    def step(self, k: int, s: Tensor, u: Tensor, alpha: float) -> Tensor:
        """Algorithm 1 of Kingma and Ba; s holds phi and the two moments."""
        if self.weight_decay:
            u = u + self.weight_decay * s[0]
        return _moved(self, k, s, u, alpha, s[0])


@plugin
@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    weight_decay: float = option(0.01, "phi shrinks by alpha weight_decay phi at every step")

    def step(self, k: int, s: Tensor, u: Tensor, alpha: float) -> Tensor:
        """Algorithm 2 of Loshchilov and Hutter."""
        return _moved(self, k, s, u, alpha, s[0] * (1 - alpha * self.weight_decay))


def _moved(how: Adam, k: int, s: Tensor, u: Tensor, alpha: float, phi: Tensor) -> Tensor:
    first = how.beta1 * s[1] + (1 - how.beta1) * u
    second = how.beta2 * s[2] + (1 - how.beta2) * u**2
    scaled = second / (1 - how.beta2 ** (k + 1))
    ratio = first / (1 - how.beta1 ** (k + 1)) / (_root(scaled + how.epsilon_root) + how.epsilon)
    return torch.stack([torch.sub(phi, ratio, alpha=alpha), first, second])


def _root(v: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0."""
    some = v > 0
    return torch.where(some, torch.where(some, v, 1.0).sqrt(), 0.0)
