"""BinomMAML: the binomial expansion of the meta-gradient to order L, equation (8) of BinomGBML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.expansion import binomial_adjoints, binomial_expansion, check_order, scaled_alpha
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class BinomMAML:
    """Binomial expansion to order L, in L sequential levels (BinomGBML, ICLR 2026)."""

    L: int = option(2, "order of the expansion; 0 is fomaml, K is maml")
    alpha_scaling: Literal["none", "paper"] = option(
        "none",
        "none: equation (8) as it stands; paper: alpha' = L alpha / K, appendix C.2's stabiliser",
    )

    def __post_init__(self) -> None:
        check_order(self.L)

    @classmethod
    def exact(cls, K: int) -> BinomMAML:
        return cls(L=K)

    def steps(self, K: int) -> range:
        check_order(self.L, K)
        return range(K if self.L else 0)

    def expansion(self, K: int, alpha: float) -> Expansion:
        return Expansion(self.L, K, scaled_alpha(K, alpha, self.L, self.alpha_scaling))

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """The sum over orders j = 0..L of (-alpha')^j e_j(H_0..H_{K-1}) g, [B, d]."""
        return binomial_expansion(adapted, self.expansion(adapted.K, adapted.alpha))

    def adjoints(self, adapted: Adapted) -> Tensor:
        return binomial_adjoints(adapted, self.expansion(adapted.K, adapted.alpha))
