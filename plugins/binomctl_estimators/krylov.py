"""One Hessian a segment of the path, its factor's power by Krylov steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError
from binomctl.expansion import error_estimate, krylov_adjoints
from binomctl.expansion.deflation import middles
from binomctl.options import option, plugin
from binomctl.ranges import check_count


@plugin
@dataclass(frozen=True)
class KrylovMAML:
    """A_mid^n w for each segment of n steps, in a Krylov space of s directions from w.

    segments times s products, and as many linearisations as segments, whatever K: for long inner
    loops. It stays sound where alpha H is above 1, and is exact for segments of one step
    (docs/beyond.md).
    """

    segments: int = option(2, "parts of the path, each with the Hessian of its middle; K is maml")
    s: int = option(3, "products of each segment")

    def __post_init__(self) -> None:
        check_count("segments", self.segments, "estimator.segments")
        check_count("s", self.s, "estimator.s")

    @classmethod
    def exact(cls, K: int) -> KrylovMAML:
        return cls(segments=K, s=1)

    def steps(self, K: int) -> Sequence[int]:
        if self.segments > K:
            raise ConfigError(
                f"segments = {self.segments} is greater than K = {K}, the number of inner steps",
                f"Choose up to {K} (K segments are exact MAML).",
                key="estimator.segments",
            )
        return middles(K, self.segments)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """w_0 [B, D]."""
        return self.adjoints(adapted)[:, 0]

    def adjoints(self, adapted: Adapted) -> Tensor:
        return krylov_adjoints(adapted, self.segments, self.s)

    def error_estimate(self, adapted: Adapted) -> Tensor:
        """[B], by one level of K products."""
        return error_estimate(adapted, self.adjoints(adapted))
