"""Implicit differentiation by a Neumann series (Lorraine et al. 2020, on iMAML's equation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.options import check_not_negative, option, plugin
from binomctl.ranges import check_positive


@plugin
@dataclass(frozen=True)
class Neumann:
    """Implicit MAML with (I + H / lambda)^-1 as L terms of its Neumann series.

    Sum over j = 0..L of (-H(phi^K) / lambda)^j g. It converges where the largest curvature stays
    below lambda; conjugate gradients (imaml) have no such limit.
    """

    L: int = option(5, "terms after g, each one Hessian-vector product")
    lam: float = option(2.0, "lambda, the strength of the proximal term")

    plain_only: ClassVar[str] = (
        "its equation holds where the gradient of the proximal loss vanishes in every parameter"
    )
    stationary: ClassVar[str] = plain_only

    def __post_init__(self) -> None:
        check_not_negative(self, "L", key="estimator")
        check_positive("lambda", self.lam, "estimator.lam")

    @property
    def proximal(self) -> float:
        return self.lam

    def steps(self, K: int) -> range:
        return range(K, K + 1 if self.L else K)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """The partial sum [B, d], by Horner: x <- g - (H / lambda) x, L times."""
        x = adapted.g_phi
        for _ in range(self.L):
            x = adapted.g_phi - adapted.hessian([adapted.K], x.unsqueeze(1))[:, 0] / self.lam
        return x
