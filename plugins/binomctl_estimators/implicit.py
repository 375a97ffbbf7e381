"""The implicit function theorem at phi^K, for the parameters that the inner loop leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError
from binomctl.expansion import conjugate_gradients
from binomctl.options import check_not_negative, option, plugin
from binomctl.ranges import check_count


@plugin
@dataclass(frozen=True)
class Implicit:
    """Implicit gradients: v solves (I - A) v = g in what adapts, the rest gets A v.

    A is the adjoint of one step at phi^K, I - alpha H under gradient descent (where a rule's own
    term is not linear, that of the last step). phi^K is taken for a minimum: nothing there depends
    on the path, so that the start of the inner loop learns nothing. Pedregosa 2016 (conjugate
    gradients), Lorraine et al. 2020 (Neumann series), compared by Grazzi et al. 2020.
    """

    L: int = option(10, "steps of conjugate gradients, or terms of the series after the first")
    solver: Literal["cg", "neumann"] = option(
        "cg", "cg, or neumann: the series of I - alpha H, which converges below alpha H = 2"
    )
    damping: float = option(0.0, "added to H; not below 0")

    fixed_only: ClassVar[str] = (
        "at a minimum nothing depends on where the inner loop began: it needs parameters that are"
        " meta-learned and not adapted"
    )
    stationary: ClassVar[str] = "its equation holds where the gradient of the inner loss vanishes"

    def __post_init__(self) -> None:
        check_count("L", self.L, "estimator.L")
        check_not_negative(self, "damping", key="estimator")

    def steps(self, K: int) -> range:
        return range(K - 1, K + 1)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """[B, d]: g + A v at what is left alone, 0 at what adapts.

        Raises:
            ConfigError: the inner optimiser carries a state.
        """
        if adapted.trajectory.slots is not None:
            raise ConfigError(
                "implicit gradients need inner steps without a state",
                "Use adaptation.optimizer=sgd without momentum, or an expansion.",
                key="adaptation.optimizer",
            )
        moved = adapted.moved
        v = self._solved(adapted, torch.where(moved, adapted.g, 0.0), moved)
        return torch.where(moved, 0.0, adapted.g + self._stepped(adapted, v))

    def _stepped(self, adapted: Adapted, v: Tensor) -> Tensor:
        """A v [B, d]."""
        at, V = [adapted.K if adapted.still else adapted.K - 1], v.unsqueeze(1)
        return (adapted.carry(at, V) - adapted.alpha * adapted.hvp(at, V))[:, 0]

    def _solved(self, adapted: Adapted, g: Tensor, moved: Tensor) -> Tensor:
        damping = adapted.rate * self.damping

        def apply(v: Tensor) -> Tensor:
            return torch.where(moved, v - self._stepped(adapted, v), 0.0) + damping * v

        if self.solver == "neumann":
            x = g
            for _ in range(self.L):
                x = x + g - apply(x)
            return x
        x = torch.zeros_like(g)
        for after in conjugate_gradients(apply, x, g, self.L, rounding=True):
            x = after
        return x
