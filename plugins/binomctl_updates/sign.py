"""Sign-MAML's step: the sign of the direction (Fan et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class Sign:
    """phi - alpha sign(u) (Fan et al. 2021): no second derivatives, every meta-gradient is g.

    The sign's derivative is zero wherever it has one, so that exact MAML costs what FOMAML does.
    """

    @property
    def plain(self) -> bool:
        return False

    @property
    def slots(self) -> int:
        return 0

    @property
    def shifts(self) -> str:
        return "it never comes to rest: every step has the length alpha"

    def step(self, k: int, s: Tensor, u: Tensor, alpha: float) -> Tensor:
        """s [1, d]."""
        return s - alpha * u.sign()
