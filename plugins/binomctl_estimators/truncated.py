"""Truncated backpropagation: A_{K-L} ... A_{K-1} g, equation (5) of BinomGBML."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.expansion import binomial_adjoints, binomial_expansion, check_order
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class TruncMAML:
    """Backpropagation through the last L inner steps only (Shaban et al. 2019).

    A rule's own parameters learn from those L steps too: at L = 0 they do not learn, where
    fomaml's do.
    """

    L: int = option(2, "inner steps that are backpropagated through; 0 is fomaml, K is maml")

    def __post_init__(self) -> None:
        check_order(self.L)

    @classmethod
    def exact(cls, K: int) -> TruncMAML:
        return cls(L=K)

    def steps(self, K: int) -> range:
        check_order(self.L, K)
        return range(K - self.L, K)

    def expansion(self, K: int, alpha: float) -> Expansion:
        return Expansion(self.L, self.L, alpha)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """The product of the last L factors applied to g, [B, d]."""
        return binomial_expansion(adapted, self.expansion(adapted.K, adapted.alpha))

    def adjoints(self, adapted: Adapted) -> Tensor:
        return binomial_adjoints(adapted, self.expansion(adapted.K, adapted.alpha))
