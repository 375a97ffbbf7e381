"""Chosen inner steps exactly, the others to order L."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.expansion import (
    check_kept,
    check_order,
    error_estimate,
    kept_adjoints,
    kept_expansion,
)
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class Steps:
    """The factors of chosen inner steps in their order, an expansion to order L of the others.

    kept = the last L is trunc, kept = the first m is head, kept = none is binom.
    """

    kept: tuple[int, ...] = option((0, 1), "inner steps, from 0, whose factors are exact")
    L: int = option(0, "order of the expansion of the other steps")

    def __post_init__(self) -> None:
        check_order(self.L)

    @classmethod
    def exact(cls, K: int) -> Steps:
        return cls(kept=tuple(range(K)))

    def steps(self, K: int) -> Sequence[int]:
        check_kept(self.kept, self.L, K, "estimator.kept")
        return range(K) if self.L else sorted(self.kept)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """S_L(0) of the recursion in which kept steps are exact in every order, [B, D]."""
        return kept_expansion(adapted, self.kept, self.L)

    def adjoints(self, adapted: Adapted) -> Tensor:
        return kept_adjoints(adapted, self.kept, self.L)

    def error_estimate(self, adapted: Adapted) -> Tensor:
        """[B], by one level of K products."""
        return error_estimate(adapted, self.adjoints(adapted))
