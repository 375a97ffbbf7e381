"""Reptile: move towards the adapted parameters (Nichol et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class Reptile:
    """theta - phi^K as a pseudo-gradient, an SGD outer step with linear decay (Nichol et al. 2018).

    Not an estimate of the meta-gradient: it takes no query loss into account.
    """

    plain_only: ClassVar[str] = (
        "what the inner loop does not move, or a rule's own parameters, would never be trained"
    )
    no_estimate: ClassVar[str] = "theta - phi^K takes no query loss into account"
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "training": {"optimizer": "sgd", "schedule": "linear", "meta_lr": 1.0},
            "adaptation": {"batch": 5},
        }
    )

    def steps(self, K: int) -> range:
        return range(0)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """theta - phi^K [B, d]; with learning rate 1 the SGD step goes to the mean of phi^K."""
        trajectory = adapted.trajectory
        return trajectory.theta.detach() - trajectory.phi[:, -1]
