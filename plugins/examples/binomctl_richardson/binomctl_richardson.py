"""Richardson extrapolation along the inner path: exact MAML from few of its Hessians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class Richardson:
    """(4 w_2n - w_n) / 3, w_n pulled back with one Hessian for each of n segments, its middle's.

    A middle stands for its segment up to second order in the segment's length, so that the
    extrapolation cancels what w_n and w_2n share of it (Richardson 1911). 2 K products as against
    K, and at most 6 n linearisations whatever K: for long inner loops.
    """

    segments: int = option(1, "n: parts of the path; from K / 4 on it is exact MAML")

    def __post_init__(self) -> None:
        if self.segments < 1:
            raise ConfigError(
                f"segments = {self.segments} is below 1",
                "Choose 1 for the fewest Hessians.",
                key="estimator.segments",
            )

    @classmethod
    def exact(cls, K: int) -> Richardson:
        return cls(segments=(K + 3) // 4)

    def parts(self, K: int) -> list[int]:
        """The numbers of segments, the finest last: that one alone where it is exact, its segments
        of one or two steps."""
        n = self.segments
        return [2 * n] if 4 * n >= K else [n, 2 * n]

    def steps(self, K: int) -> list[int]:
        """The middles of n and of 2 n segments."""
        return sorted({k for n in self.parts(K) for k in middles(K, n)})

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """[B, D]."""
        return self.adjoints(adapted)[:, 0]

    def adjoints(self, adapted: Adapted) -> Tensor:
        """w_0 .. w_K [B, K+1, D]: rules with parameters of their own learn from them."""
        *coarse, fine = (pulled_back(adapted, n) for n in self.parts(adapted.K))
        return (4 * fine - coarse[0]) / 3 if coarse else fine


def pulled_back(adapted: Adapted, segments: int) -> Tensor:
    """w_0 .. w_K [B, K+1, D] with the step that stands for k in place of every step k."""
    w = [adapted.g.unsqueeze(1)]
    for k in reversed(middles(adapted.K, segments)):
        w.append(adapted.carry([k], w[-1]) - adapted.alpha * adapted.hvp([k], w[-1]))
    return torch.cat(w[::-1], dim=1)


def middles(K: int, segments: int) -> list[int]:
    """The step that stands for each of 0 .. K-1. An even segment has two middles, half a step
    early and late: each stands for its half, and together they are not off."""
    out: list[int] = []
    for i in range(segments):
        low, high = i * K // segments, (i + 1) * K // segments
        out += [(low + high - (2 * k < low + high)) // 2 for k in range(low, high)]
    return out
