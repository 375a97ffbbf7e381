"""What a data set scores tasks by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """What a data set scores tasks by.

    unit: "share", in [0, 1] and shown in percent, or "number".
    """

    name: str
    unit: Literal["share", "number"]
    higher_is_better: bool

    def worded(self, value: float) -> str:
        """One value, "accuracy 81.3%" or "mse 0.3101"."""
        return f"{self.name} {value:.1%}" if self.unit == "share" else f"{self.name} {value:.4g}"
