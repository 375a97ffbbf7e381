"""First-order MAML: the meta-gradient is taken to be g."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from binomctl.contracts import Adapted, Expansion


@dataclass(frozen=True)
class FOMAML:
    """First-order MAML, every Hessian dropped (Finn et al. 2017)."""

    def steps(self, K: int) -> range:
        return range(0)

    def expansion(self, K: int, alpha: float) -> Expansion:
        return Expansion(0, K, alpha)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """g [B, d] = grad l_val(phi^K)."""
        return adapted.g

    def adjoints(self, adapted: Adapted) -> Tensor:
        """g at every step: phi^{k+1} is taken to move with phi^k one to one."""
        return adapted.g.unsqueeze(1).expand(-1, adapted.K + 1, -1)
