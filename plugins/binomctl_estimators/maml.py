"""Exact MAML: A_0 A_1 ... A_{K-1} g with A_k = I - alpha H_k."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.expansion import binomial_adjoints, binomial_expansion
from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class MAML:
    """Exact meta-gradient, K Hessian-vector products in sequence (Finn et al. 2017)."""

    @classmethod
    def exact(cls, K: int) -> MAML:
        return cls()

    def steps(self, K: int) -> range:
        return range(K)

    def expansion(self, K: int, alpha: float) -> Expansion:
        return Expansion(K, K, alpha)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """Equation (4) of BinomGBML, [B, d]."""
        return binomial_expansion(adapted, self.expansion(adapted.K, adapted.alpha))

    def adjoints(self, adapted: Adapted) -> Tensor:
        return binomial_adjoints(adapted, self.expansion(adapted.K, adapted.alpha))
