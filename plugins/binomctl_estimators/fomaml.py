"""First-order MAML: the meta-gradient is taken to be g."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.expansion import binomial_adjoints, binomial_expansion
from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class FOMAML:
    """First-order MAML, every Hessian dropped (Finn et al. 2017)."""

    def steps(self, K: int) -> range:
        return range(0)

    def expansion(self, K: int, alpha: float) -> Expansion:
        return Expansion(0, K, alpha)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """g = grad l_val(phi^K), pulled back past steps whose gradients are held fixed, [B, D]."""
        return binomial_expansion(adapted, self.expansion(adapted.K, adapted.alpha))

    def adjoints(self, adapted: Adapted) -> Tensor:
        """Under gradient descent g at every step: phi^{k+1} moves with phi^k one to one."""
        return binomial_adjoints(adapted, self.expansion(adapted.K, adapted.alpha))
