"""Means with intervals that say what they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MeanCI:
    """A sample mean; `ci95` is the half-width of its 95% confidence interval."""

    mean: float
    ci95: float
    n: int

    def percent(self) -> str:
        """A fraction in words, "81.3% (95% CI 80.1% to 82.5%, n = 600)"."""
        if self.n == 1:
            return f"{self.mean:.1%} (n = 1, no interval)"
        low, high = self.mean - self.ci95, self.mean + self.ci95
        return f"{self.mean:.1%} (95% CI {low:.1%} to {high:.1%}, n = {self.n})"

    def plain(self) -> str:
        """A number in words, "0.31 (95% CI 0.29 to 0.33, n = 600)"."""
        if self.n == 1:
            return f"{self.mean:.4g} (n = 1, no interval)"
        low, high = self.mean - self.ci95, self.mean + self.ci95
        return f"{self.mean:.4g} (95% CI {low:.4g} to {high:.4g}, n = {self.n})"

    def worded(self, unit: str) -> str:
        """As percentage for a share, as a number otherwise."""
        return self.percent() if unit == "share" else self.plain()


def mean_ci95(
    values: Sequence[float], interval: Literal["student", "normal"] = "student"
) -> MeanCI:
    """Mean and 95% confidence half-width; infinite for n = 1.

    Args:
        values: independent observations, at least one.
        interval: "student", t_{0.975, n-1} s / sqrt(n); "normal", 1.96 std / sqrt(n) with std over
            n instead of n - 1, as the code of Finn et al. 2017 has it.
    """
    from scipy.special import stdtrit

    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return MeanCI(mean, math.inf, n)
    squares = math.fsum((v - mean) ** 2 for v in values)
    if interval == "normal":
        return MeanCI(mean, 1.96 * math.sqrt(squares / n) / math.sqrt(n), n)
    return MeanCI(mean, float(stdtrit(n - 1, 0.975)) * math.sqrt(squares / (n - 1) / n), n)


def standard_error(values: Sequence[float]) -> float:
    """s / sqrt(n), what some papers print behind a plus-minus; infinite for n = 1."""
    n = len(values)
    return statistics.stdev(values) / math.sqrt(n) if n > 1 else math.inf
