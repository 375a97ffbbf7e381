"""The first inner steps exactly: the head of the adjoint product instead of its tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError
from binomctl.expansion import (
    check_kept,
    check_order,
    error_estimate,
    kept_adjoints,
    kept_expansion,
)
from binomctl.options import check_not_negative, option, plugin


@plugin
@dataclass(frozen=True)
class Head:
    """Exact over the first m inner steps, an expansion to order L over the others.

    A_0 ... A_{m-1} S_L(m): the cost of trunc at L = 0, m products and m linearisations. Where
    curvature is at the start of adaptation, as in few-shot classification, those are the factors
    that matter (docs/beyond.md).
    """

    m: int = option(2, "first inner steps whose factors are exact; K is maml")
    L: int = option(0, "order of the expansion over the steps after them")

    def __post_init__(self) -> None:
        check_order(self.L)
        check_not_negative(self, "m", key="estimator")

    @classmethod
    def exact(cls, K: int) -> Head:
        return cls(m=K)

    def steps(self, K: int) -> Sequence[int]:
        if self.m > K:
            raise ConfigError(
                f"m = {self.m} is greater than K = {K}, the number of inner steps",
                f"Choose m between 0 and {K} (m = K is exact MAML).",
                key="estimator.m",
            )
        check_kept(range(self.m), self.L, K, "estimator.m")
        return range(K if self.L else self.m)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """A_0 ... A_{m-1} applied to order L of the rest, [B, D]."""
        return kept_expansion(adapted, range(self.m), self.L)

    def adjoints(self, adapted: Adapted) -> Tensor:
        return kept_adjoints(adapted, range(self.m), self.L)

    def error_estimate(self, adapted: Adapted) -> Tensor:
        """[B], by one level of K products."""
        return error_estimate(adapted, self.adjoints(adapted))
