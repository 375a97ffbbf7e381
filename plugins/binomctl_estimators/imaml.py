"""iMAML: implicit differentiation of a proximal inner loop (Rajeswaran et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError, NonFiniteError
from binomctl.expansion import conjugate_gradients
from binomctl.options import option, plugin
from binomctl.ranges import check_count


@plugin
@dataclass(frozen=True)
class IMAML:
    """Implicit MAML: (I + H(phi^K) / lambda) x = g by L steps of conjugate gradients.

    The inner loop minimises l_trn + (lambda / 2) |phi - theta|^2; at its minimum the solution x
    is the exact meta-gradient, whatever path led there (Rajeswaran et al. 2019, equation 6).
    """

    L: int = option(5, "steps of conjugate gradients")
    lam: float | None = option(
        None, "lambda, the strength of the proximal term; null: 2, or 100 for variant authors"
    )
    variant: Literal["standard", "authors"] = option(
        "standard",
        "standard: proximal inner loop, solved from 0; authors: as in BinomGBML's published code,"
        " no proximal term, lambda 100, solved from g",
    )

    plain_only: ClassVar[str] = (
        "its equation holds where the gradient of the proximal loss vanishes in every parameter"
    )
    stationary: ClassVar[str] = plain_only

    def __post_init__(self) -> None:
        if self.lam is None:
            object.__setattr__(self, "lam", 100.0 if self.variant == "authors" else 2.0)
        check_count("L", self.L, "estimator.L")
        if self._lam <= 0:  # an option is finite
            raise ConfigError(
                f"lambda = {self.lam} must be positive: (I + H / lambda) is to be solved",
                "Rajeswaran et al. use 2 on Omniglot and 0.5 on miniImageNet.",
                key="estimator.lam",
            )

    @property
    def _lam(self) -> float:
        assert self.lam is not None  # since __post_init__
        return self.lam

    @property
    def proximal(self) -> float:
        return self._lam if self.variant == "standard" else 0.0

    def steps(self, K: int) -> range:
        return range(K, K + 1)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """x [B, d] after L steps of conjugate gradients, all tasks side by side.

        Raises:
            NonFiniteError: an iterate is not finite, with the task and the step.
        """
        g = adapted.g_phi
        x = g if self.variant == "authors" else torch.zeros_like(g)
        r = g - self._apply(adapted, x) if self.variant == "authors" else g
        iterates = conjugate_gradients(partial(self._apply, adapted), x, r, self.L)
        for step, after in enumerate(iterates):
            x = after
            self._check_finite(x, step)
        return x

    def diagnose(self, adapted: Adapted, estimate: Tensor) -> Mapping[str, Tensor]:
        """cg_residual [B] = |g - (I + H / lambda) x| / |g|, by one more product."""
        residual = adapted.g_phi - self._apply(adapted, estimate)
        return {"cg_residual": residual.norm(dim=-1) / adapted.g_phi.norm(dim=-1)}

    def _apply(self, adapted: Adapted, v: Tensor) -> Tensor:
        return v + adapted.hessian([adapted.K], v.unsqueeze(1))[:, 0] / self._lam

    def _check_finite(self, x: Tensor, step: int) -> None:
        bad = (~torch.isfinite(x).all(-1)).nonzero().flatten().tolist()
        if bad:
            raise NonFiniteError(
                f"conjugate gradients left the finite numbers at step {step + 1} of {self.L} in"
                f" task(s) {bad} of the meta-batch (lambda = {self._lam:g})",
                "Raise estimator.lam above the most negative curvature of the loss, lower"
                " adaptation.alpha, or lower estimator.L.",
            )
