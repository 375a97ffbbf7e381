"""Deflation: the expansion in what is left of the Hessians after a few Krylov directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.errors import ConfigError
from binomctl.expansion import (
    binomial_adjoints,
    binomial_expansion,
    check_order,
    deflated,
    error_estimate,
    quadrature_adjoints,
    until,
)
from binomctl.expansion.deflation import check_rank, middles
from binomctl.expansion.quadrature import nodes
from binomctl.options import option, plugin
from binomctl.ranges import check_count


@plugin
@dataclass(frozen=True)
class DeflatedMAML:
    """Binomial expansion to order L in H - low(H), low(H) carried exactly.

    low(H) is of rank r, by r Lanczos steps begun at g at the middle of the path or of each of its
    segments: r products instead of the expansion's K a level. It serves where Hessians change
    slowly along the path, however large alpha H is (docs/beyond.md).
    """

    r: int = option(2, "Lanczos steps of each segment; 0 is binom")
    L: int = option(1, "order of the expansion in the rest; with a tolerance the highest")
    q: int | None = option(None, "inner steps where the rest is asked for; null: all K")
    segments: int = option(1, "parts of the path with a low rank of their own")
    form: Literal["auto", "two-sided", "projected"] = option(
        "auto", "two-sided: closer; projected: safe at large alpha H; auto: by alpha |H|, per task"
    )
    tolerance: float | None = option(
        None, "levels until the last one changes every task by less than this share; null: L levels"
    )

    def __post_init__(self) -> None:
        check_order(self.L)
        check_rank(self.r)
        check_count("segments", self.segments, "estimator.segments")
        if self.q is not None:
            check_count("q", self.q, "estimator.q")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ConfigError(
                f"tolerance = {self.tolerance} is no share between 0 and 1",
                "0.05 stops where the last level changed the estimate by 5%.",
                key="estimator.tolerance",
            )
        if self.tolerance is not None and self.q is not None:
            raise ConfigError(
                "levels until a tolerance ask for every step, and q for a few",
                "Leave one of the two out.",
                key="estimator.q",
            )

    @classmethod
    def exact(cls, K: int) -> DeflatedMAML:
        return cls(r=min(K, 1), L=K)

    def steps(self, K: int) -> Sequence[int]:
        check_order(self.L, K)
        check_rank(self.r, K)
        for name, value in (("q", self.q), ("segments", self.segments)):
            if value is not None and value > K:
                raise ConfigError(
                    f"{name} = {value} is greater than K = {K}, the number of inner steps",
                    f"Choose {name} up to {K}; exact MAML takes K products in all.",
                    key=f"estimator.{name}",
                )
        middle = middles(K, self.segments) if self.r else []
        if self.L and self.q is None:
            return range(K)
        return sorted({*middle, *(nodes(K, self.q) if self.L and self.q else [])})

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """S_L(0) with P_k = I - alpha low(H) and R_k = H_k - low(H) for its Hessians, [B, D]."""
        left = self._deflated(adapted)
        if self.q is None and self.tolerance is None:
            return binomial_expansion(left, Expansion(self.L, adapted.K, adapted.alpha))
        return self._adjoints(left)[:, 0]

    def adjoints(self, adapted: Adapted) -> Tensor:
        return self._adjoints(self._deflated(adapted))

    def error_estimate(self, adapted: Adapted) -> Tensor:
        """[B], by one more level."""
        left = self._deflated(adapted)
        return error_estimate(left, self._adjoints(left), self.q)

    def _adjoints(self, left: Adapted) -> Tensor:
        if self.tolerance is not None:
            return until(left, self.tolerance, self.L)[0]
        if self.q is not None:
            return quadrature_adjoints(left, self.L, self.q)
        return binomial_adjoints(left, Expansion(self.L, left.K, left.alpha))

    def _deflated(self, adapted: Adapted) -> Adapted:
        d = adapted.trajectory.phi.shape[-1]
        if self.r > d:
            raise ConfigError(
                f"r = {self.r} directions of a network with {d} parameters", key="estimator.r"
            )
        return deflated(adapted, self.r, self.segments, self.form)
