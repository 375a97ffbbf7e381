"""A low-rank part of the Hessians taken out of the expansion, and carried exactly instead.

With Q [r, d] orthonormal, HQ and T = Q H Q^T from r Lanczos steps at one point of the trajectory,

    low(v) = HQ^T Q v + Q^T HQ v - Q^T T Q v      (two-sided; projected: Q^T T Q v)
    A_k = P_k' - alpha R_k,   P_k' v = P_k v - alpha low(v),   R_k v = B_k v - low(v),

and every expansion runs as before, in R instead of H: its error is about
C(K, L+1) (alpha |R|)^{L+1}, which is small where Hessians change slowly along the path.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError, NonFiniteError
from binomctl.expansion.orthonormal import krylov_basis

Form = Literal["auto", "two-sided", "projected"]


@dataclass(frozen=True)
class LowRank:
    """Of B tasks: Q, HQ [B, r, d], T [B, r, r]; a row of Q that was not needed is zero.

    sides [B, 1, 1]: 1 where the form is two-sided, 0 where it is projected.
    """

    Q: Tensor
    HQ: Tensor
    T: Tensor
    sides: Tensor

    def times(self, V: Tensor) -> Tensor:
        """low(v) of every column: V [B, P, d] -> the same."""
        c, h = V @ self.Q.mT, V @ self.HQ.mT  # [B, P, r]
        inner = c @ self.T
        onto_q = self.sides * (h - inner) + (1 - self.sides) * inner
        return self.sides * (c @ self.HQ) + onto_q @ self.Q


def krylov(adapted: Adapted, k: int, r: int, form: Form = "auto") -> LowRank:
    """r Lanczos steps with H_k, begun at what H_k meets of g, by r products at one linearisation.

    Args:
        form: "auto" is two-sided for a task with alpha |T| <= 1, where it is the closer one, and
            projected otherwise, where the two-sided one is no contraction.

    Raises:
        NonFiniteError: g or a product is not finite.
    """
    start = adapted.into_hessians([k], adapted.g.unsqueeze(1))[:, 0]
    low, image = krylov_basis(lambda q: adapted.hessian([k], q.unsqueeze(1))[:, 0], start, r)
    T = image @ low.mT
    T = (T + T.mT) / 2
    if not bool(torch.isfinite(T).all() and torch.isfinite(start).all()):
        raise NonFiniteError(
            f"the spectrum of H_{k} cannot be measured: g or a product is not finite",
            "Lower adaptation.alpha.",
        )
    if form == "auto":
        sides = (adapted.rate * torch.linalg.matrix_norm(T, 2) <= 1).to(T).view(-1, 1, 1)
    else:
        sides = T.new_full((len(T), 1, 1), float(form == "two-sided"))
    return LowRank(low, image, T, sides)


@dataclass(frozen=True)
class Deflated(Adapted):
    """A trajectory whose low rank is carried: `lows` serve one equal segment of its steps each."""

    lows: tuple[LowRank, ...] = ()

    @property
    def sums(self) -> bool:
        return False

    def carry(self, ks: Sequence[int], V: Tensor) -> Tensor:
        return super().carry(ks, V) - self.alpha * self._low(ks, V)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        return super().hvp(ks, V) - self._low(ks, V)

    def _low(self, ks: Sequence[int], V: Tensor) -> Tensor:
        into = self.into_hessians(ks, V)
        out, d = torch.zeros_like(V), into.shape[-1]
        of = [k * len(self.lows) // self.K for k in ks]
        for segment in set(of):
            mine = [p for p, s in enumerate(of) if s == segment]
            out[:, mine, :d] = self.lows[segment].times(into[:, mine])
        return out


def check_rank(r: int, K: int | None = None) -> None:
    """Refuse a rank below 0, and one above the K inner steps.

    Raises:
        ConfigError: naming it.
    """
    if r < 0:
        raise ConfigError(f"r = {r} is negative", "0 carries no low rank.", key="estimator.r")
    if K is not None and r > K:
        raise ConfigError(
            f"r = {r} is greater than K = {K}, the number of inner steps",
            f"Choose up to {K} (exact MAML costs {K} products).",
            key="estimator.r",
        )


def deflated(adapted: Adapted, r: int, segments: int = 1, form: Form = "auto") -> Adapted:
    """The trajectory with a low rank of r directions for each of its segments; r = 0: itself."""
    if r == 0:
        return adapted
    lows = tuple(krylov(adapted, k, r, form) for k in middles(adapted.K, segments))
    given = {f.name: getattr(adapted, f.name) for f in fields(Adapted)}
    return Deflated(**given, lows=lows)


def bounds(K: int, segments: int) -> list[tuple[int, int]]:
    """Equal segments lo .. hi - 1 of 0 .. K-1."""
    return list(itertools.pairwise(-(-s * K // segments) for s in range(segments + 1)))


def middle(lo: int, hi: int) -> int:
    """The step in the middle of lo .. hi - 1."""
    return (lo + hi - 1) // 2


def middles(K: int, segments: int) -> list[int]:
    """The middles of equal segments of 0 .. K-1."""
    return [middle(lo, hi) for lo, hi in bounds(K, segments)]
