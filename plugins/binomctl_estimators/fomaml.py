"""First-order MAML: the meta-gradient is taken to be g."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from binomctl.contracts import Adapted


@dataclass(frozen=True)
class FOMAML:
    """First-order MAML, every Hessian dropped (Finn et al. 2017)."""

    def steps(self, K: int) -> range:
        return range(0)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """g [B, d] = grad l_val(phi^K)."""
        return adapted.g
