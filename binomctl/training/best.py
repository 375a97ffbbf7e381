"""The best validation so far."""

from __future__ import annotations

import math
from typing import Any

from binomctl.episodes import Metric


class Best:
    """The best validation so far, by the metric's direction; never a non-finite one."""

    def __init__(self, metric: Metric) -> None:
        self._sign = 1 if metric.higher_is_better else -1
        self.step: int | None = None
        self.value: float | None = None
        self._since = 0

    def offer(self, step: int, value: float) -> bool:
        """Whether a validation after a step is the best."""
        better = math.isfinite(value) and (
            self.value is None or self._sign * value > self._sign * self.value
        )
        self._since = 0 if better else self._since + 1
        if better:
            self.step, self.value = step, value
        return better

    def exhausted(self, patience: int | None) -> bool:
        """Whether so many validations have passed without a better one."""
        return patience is not None and self._since >= patience

    def numbers(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        return {"step": self.step, "value": self.value, "since": self._since}

    def resume(self, numbers: dict[str, Any]) -> None:
        """The inverse of `numbers`."""
        self.step, self.value = numbers["step"], numbers["value"]
        self._since = numbers["since"]
