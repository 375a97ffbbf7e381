"""The hybrid of truncation and expansion, equation (39) of BinomGBML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.errors import ConfigError
from binomctl.expansion import binomial_adjoints, binomial_expansion, check_order, scaled_alpha
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class Hybrid:
    """Binomial expansion to order L over the last C steps: C = K is binom, C = L is trunc."""

    L: int = option(2, "order of the expansion")
    C: int | None = option(None, "inner steps it reaches back, L <= C <= K; null: all K")
    alpha_scaling: Literal["none", "paper"] = option(
        "none", "none: alpha' = alpha; paper: alpha' = L alpha / K"
    )

    def __post_init__(self) -> None:
        check_order(self.L)
        if self.C is not None and self.C < self.L:
            raise ConfigError(
                f"C = {self.C} is less than L = {self.L}; order L needs at least L steps",
                "Choose C between L and K.",
                key="estimator.C",
            )

    @classmethod
    def exact(cls, K: int) -> Hybrid:
        return cls(L=K)

    def steps(self, K: int) -> range:
        check_order(self.L, K)
        if self.C is not None and self.C > K:
            raise ConfigError(
                f"C = {self.C} is greater than K = {K}, the number of inner steps",
                f"Choose C between L = {self.L} and {K}.",
                key="estimator.C",
            )
        return range(K - self._reach(K), K) if self.L else range(0)

    def expansion(self, K: int, alpha: float) -> Expansion:
        return Expansion(self.L, self._reach(K), scaled_alpha(K, alpha, self.L, self.alpha_scaling))

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """Equation (39), [B, d]."""
        return binomial_expansion(adapted, self.expansion(adapted.K, adapted.alpha))

    def adjoints(self, adapted: Adapted) -> Tensor:
        return binomial_adjoints(adapted, self.expansion(adapted.K, adapted.alpha))

    def _reach(self, K: int) -> int:
        return K if self.C is None else self.C
