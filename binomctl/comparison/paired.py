"""Statistics of paired differences: how large, how certain, how many more would be needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from binomctl.metric import Metric
from binomctl.reporting.intervals import mean_ci95

POWER = 0.8
LEVEL = 0.05
RESAMPLES = 9_999
FEW = 10


@dataclass(frozen=True)
class Paired:
    """Of n differences: their mean, the half-width of its 95% interval by Student's t, the ends of
    its 95% bootstrap interval (bias-corrected and accelerated; None for so few that resampling
    says nothing), the two-sided p of a t test, and the n from which on a true difference of this
    size would be found in 80% of studies."""

    n: int
    mean: float
    ci95: float
    bootstrap: tuple[float, float] | None
    p: float
    needed: int | None


def paired(differences: Sequence[float]) -> Paired:
    """Statistics of differences, one a pair; of a single one nothing but itself can be said.

    The bootstrap draws from a generator of its own: the same differences, the same interval.
    """
    from scipy import stats

    d = np.asarray(differences, dtype=np.float64)
    value = mean_ci95(d.tolist())
    if len(d) == 1:
        return Paired(1, value.mean, value.ci95, None, 1.0, None)
    spread = float(d.std(ddof=1))
    if spread == 0:
        p = 1.0 if value.mean == 0 else 0.0
        ends = (value.mean, value.mean)
        return Paired(len(d), value.mean, value.ci95, ends, p, None)
    p = float(stats.ttest_1samp(d, 0.0).pvalue)
    if len(d) < FEW:
        return Paired(len(d), value.mean, value.ci95, None, p, needed(value.mean, spread))
    found = stats.bootstrap(
        (d,), np.mean, n_resamples=RESAMPLES, batch=500, method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Paired(
        len(d), value.mean, value.ci95, (float(found.low), float(found.high)), p,
        needed(value.mean, spread),
    )  # fmt: skip


def needed(mean: float, spread: float) -> int | None:
    """n at which a two-sided test of level 5% finds a difference in 80% of studies; None for 0."""
    from scipy.special import ndtri

    if mean == 0:
        return None
    z = float(ndtri(1 - LEVEL / 2) + ndtri(POWER))
    return math.ceil((z * spread / mean) ** 2)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for how many there are, by Holm's step-down method: the chance of any
    false finding among them stays at the level."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    out, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        out[i] = least
    return out


def verdict(found: Paired, p: float, metric: Metric, of: str) -> str:
    """A difference to the reference in plain words.

    Args:
        p: corrected for many comparisons.
        metric: what was scored; differences of shares are told in points of a hundred.
        of: what n counts, "tasks" or "seeds".
    """
    if found.mean == 0 and found.ci95 == 0:
        return "the same scores"
    size = f"{abs(found.mean):.3g} in {metric.name}"
    if metric.unit == "share":
        size = f"{100 * abs(found.mean):.1f} points"
    if p < LEVEL:
        better = (found.mean > 0) == metric.higher_is_better
        return f"{'better' if better else 'worse'} by {size}"
    if found.n == 1:
        return "not separable: n = 1 tells nothing"
    if found.needed is None:
        return f"not separable at n = {found.n:,}: no difference in the mean"
    if found.needed <= found.n:  # alone it would be one; among so many it is none
        return f"not separable at n = {found.n:,} {of} among so many comparisons"
    return f"not separable at n = {found.n:,}: {found.needed:,} {of} would be needed"
