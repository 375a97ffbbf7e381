"""Which factors to keep and how to expand the rest, chosen by measuring now and then."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.errors import ConfigError
from binomctl.expansion import (
    binomial_adjoints,
    deflated,
    kept_adjoints,
    kept_expansion,
    krylov_adjoints,
    quadrature_adjoints,
)
from binomctl.expansion.deflation import bounds
from binomctl.flat import Layout
from binomctl.options import check_not_negative, option, plugin
from binomctl.ranges import check_count

_NOTES = logging.getLogger("binomctl.notes")


@dataclass(frozen=True)
class Way:
    """One estimate: exact factors of the first m steps and the last n, order L of the others, or
    deflated by r directions to order L, at q of the steps (0: all); or segments of s products."""

    m: int = 0
    n: int = 0
    L: int = 0
    r: int = 0
    q: int = 0
    segments: int = 0
    s: int = 0

    def products(self, K: int) -> int:
        if self.segments:
            return sum(min(self.s, hi - lo) for lo, hi in bounds(K, self.segments))
        if self.r:
            return self.r + (self.L * self.q if self.q else self.L * K - self.L * (self.L - 1))
        rest = K - self.m - self.n
        return self.m + self.n + self.L * max(rest - self.L + 1, 0)

    def depth(self, K: int) -> int:
        if self.segments:
            return self.products(K)
        return self.m + self.n + self.r + self.L

    def adjoints(self, adapted: Adapted) -> Tensor:
        if self.segments:
            return krylov_adjoints(adapted, self.segments, self.s)
        if not self.r:
            return kept_adjoints(adapted, self._kept(adapted.K), self.L)
        left = deflated(adapted, self.r)
        if self.q:
            return quadrature_adjoints(left, self.L, self.q)
        return binomial_adjoints(left, Expansion(self.L, adapted.K, adapted.alpha))

    def estimate(self, adapted: Adapted) -> Tensor:
        if not self.r and not self.n and not self.segments:
            return kept_expansion(adapted, range(self.m), self.L)
        return self.adjoints(adapted)[:, 0]

    def _kept(self, K: int) -> list[int]:
        return [*range(self.m), *range(K - self.n, K)]

    def __str__(self) -> str:
        if self.segments:
            return f"krylov, {self.segments} segments, s = {self.s}"
        if self.r:
            nodes = f", q = {self.q}" if self.q else ""
            return f"deflated, r = {self.r}, L = {self.L}{nodes}"
        parts = [f"first {self.m} factors"] if self.m else []
        parts += [f"last {self.n}"] if self.n else []
        parts += [f"order {self.L} of the others"] if self.L else []
        return ", ".join(parts) or "first order"


@plugin
@dataclass(frozen=True)
class AutoMAML:
    """The cheapest estimate that is near enough, chosen anew every so many meta-steps.

    Every `every` meta-steps the exact meta-gradient of one batch is computed, and with it what
    first factors, last factors, expansions and deflation would have said; the cheapest way whose
    median relative error is within the tolerance serves until the next time. With a number of
    products the nearest way that costs no more. Choices are told.
    """

    tolerance: float = option(0.1, "median relative error allowed")
    products: int | None = option(
        None, "products a task at most; null: as many as the tolerance needs"
    )
    every: int = option(50, "meta-steps between two choices")

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ConfigError(
                f"tolerance = {self.tolerance} is no share between 0 and 1",
                "0.1 allows an error of 10%.",
                key="estimator.tolerance",
            )
        check_count("every", self.every, "estimator.every")
        check_not_negative(self, "products", key="estimator")

    def steps(self, K: int) -> range:
        return range(K)

    def init_state(self, layout: Layout) -> Mapping[str, Tensor]:
        return {"calls": torch.tensor(0), "way": torch.zeros(7, dtype=torch.int64)}

    def advance(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        w, way, after = self._advance(adapted, state)
        return (way.estimate(adapted) if w is None else w[:, 0]), after

    def advance_adjoints(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        w, way, after = self._advance(adapted, state)
        return (way.adjoints(adapted) if w is None else w), after

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """[B, D], each task by the way that it alone would choose."""
        return self.adjoints(adapted)[:, 0]

    def adjoints(self, adapted: Adapted) -> Tensor:
        tried = list(self._tried(adapted, self._exact(adapted)))
        out = torch.empty_like(tried[0][1].adjoints(adapted))
        for b in range(len(out)):
            errors = ((error[b : b + 1], way) for error, way in tried)
            out[b] = self._first(errors).adjoints(adapted)[b]
        return out

    def _advance(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor | None, Way, Mapping[str, Tensor]]:
        """The exact adjoints where they were computed, the way, and the next state."""
        calls, way = int(state["calls"]), Way(*map(int, state["way"]))
        exact = None
        if calls % self.every == 0:
            exact = self._exact(adapted)
            found = self._first(self._tried(adapted, exact))
            if found != way or calls == 0:
                _NOTES.info(
                    "auto: %s (%d products, depth %d) from meta-step %d on", found,
                    found.products(adapted.K), found.depth(adapted.K), calls + 1,
                )  # fmt: skip
            way = found
        numbers = torch.tensor(dataclasses.astuple(way))
        return exact, way, {"calls": torch.tensor(calls + 1), "way": numbers}

    def _exact(self, adapted: Adapted) -> Tensor:
        return binomial_adjoints(adapted, Expansion(adapted.K, adapted.K, adapted.alpha))

    def _tried(self, adapted: Adapted, exact: Tensor) -> Iterator[tuple[Tensor, Way]]:
        """The relative errors [B] of every way that is allowed, the cheapest first."""
        K, waits = adapted.K, adapted.curvature.order == "columns"
        size = exact[:, 0].norm(dim=-1).clamp_min(torch.finfo(exact.dtype).tiny)

        def cost(way: Way) -> tuple[float, int]:
            """By columns depth is what is waited for; by rows every product is."""
            products = way.products(K)
            return (way.depth(K) + products / 8 if waits else products), products

        for way in sorted(_ways(K), key=cost):
            if way.segments and adapted.sources:  # it knows the last outer loss alone
                continue
            if self.products is None or way.products(K) <= self.products:
                yield (way.estimate(adapted) - exact[:, 0]).norm(dim=-1) / size, way

    def _first(self, tried: Iterable[tuple[Tensor, Way]]) -> Way:
        """The first way within the tolerance; under a number of products, or where there is none,
        the nearest."""
        best: tuple[float, Way] | None = None
        for errors, way in tried:
            error = float(errors.nan_to_num(torch.inf).median())
            if best is None or error < best[0]:
                best = error, way
            if self.products is None and error <= self.tolerance:
                return way
        assert best is not None  # first order costs nothing
        return best[1]


def _ways(K: int) -> Iterator[Way]:
    """What is tried: heads and tails, orders 1 and 2 after a head, segments, deflation."""
    yield Way(m=K)
    for m in range(min(K, 24)):
        yield Way(m=m)
        if m:
            yield Way(n=m)
        for L in (1, 2):
            if m + L < K and m + L * (K - m - L + 1) <= 2 * K:
                yield Way(m=m, L=L)
    for segments in (1, 2, 3, 4, 5, 7, 10):
        for s in (2, 3, 4, 5):
            way = Way(segments=segments, s=s)
            if segments * s < K and way.products(K) <= 40:
                yield way
    for r in (2, 3, 5, 8):
        for L in (0, 1, 2):
            for q in (0, 5, 9) if L else (0,):
                way = Way(L=L, r=r, q=q)
                if r < K and q < K and way.products(K) <= 2 * K:
                    yield way
