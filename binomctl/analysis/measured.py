"""What was measured of estimators, batch by batch, and its summaries."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from binomctl.contracts import Adapted, Remembers
from binomctl.problem.cases import Case
from binomctl.reporting.intervals import mean_ci95


@dataclass
class Errors:
    """What was measured of one case; a value per batch, or per task in the lists so named.

    relative: |estimate - exact| / |exact| of the meta-gradients averaged over a batch's tasks;
    absolute: without the division; cosine: of the angle between the two. over_g:
    |estimate - exact| / |g| per task, the unit of the bounds. A batch or task whose exact
    meta-gradient is zero, or whose estimate is not finite, has no relative error and is counted as
    undefined; one whose estimate is zero has no cosine. An estimator with a state goes through the
    batches as through meta-steps. task_estimated: the estimates of task_relative, where asked for.
    """

    case: Case
    memory: Mapping[str, Tensor] | None = None
    relative: list[float] = field(default_factory=list)
    absolute: list[float] = field(default_factory=list)
    cosine: list[float] = field(default_factory=list)
    task_relative: list[float] = field(default_factory=list)
    task_absolute: list[float] = field(default_factory=list)
    task_cosine: list[float] = field(default_factory=list)
    over_g: list[float] = field(default_factory=list)
    task_estimated: list[float] = field(default_factory=list)
    undefined: int = 0
    task_undefined: int = 0

    def add(
        self, estimate: Tensor, exact: Tensor, g: Tensor, estimated: Tensor | None = None
    ) -> None:
        """Record one batch of estimates [B, d], and what they say of their own errors [B]."""
        error, size, angle = (float(v) for v in compare(estimate.mean(0), exact.mean(0)))
        self.absolute += [error] if math.isfinite(error) else []
        if size > 0 and math.isfinite(error):
            self.relative.append(error / size)
            self.cosine += [angle] if math.isfinite(angle) else []
        else:
            self.undefined += 1
        errors, sizes, angles = compare(estimate, exact)
        defined = (sizes > 0) & errors.isfinite()
        self.task_absolute += errors[errors.isfinite()].tolist()
        self.task_relative += (errors[defined] / sizes[defined]).tolist()
        if estimated is not None:
            self.task_estimated += estimated[defined].tolist()
        self.task_cosine += angles[defined & angles.isfinite()].tolist()
        self.task_undefined += int((~defined).sum())
        norms = g.norm(dim=-1)
        measured = (norms > 0) & errors.isfinite()
        self.over_g += (errors[measured] / norms[measured]).tolist()

    def estimate(self, adapted: Adapted) -> Tensor:
        """What the estimator says of the next batch, [B, D]."""
        estimator = self.case.estimator
        if not isinstance(estimator, Remembers):
            return estimator.meta_gradient(adapted)
        if self.memory is None:
            self.memory = estimator.init_state(adapted.trajectory.adaptation.layout)
        rows, self.memory = estimator.advance(adapted, self.memory)
        return rows

    def add_failure(self, tasks: int) -> None:
        """Record a batch for which the estimator gave up (NonFiniteError)."""
        self.undefined += 1
        self.task_undefined += tasks

    def report(self) -> dict[str, Any]:
        """As in the JSON report: means with 95% Student t intervals, n and the batches' values."""
        return {
            "estimator": self.case.name,
            "L": self.case.L,
            "C": self.case.C,
            "alpha_scaling": self.case.alpha_scaling,
            "options": self.case.others,
            "relative": summary_of(self.relative, values=True) | {"undefined": self.undefined},
            "absolute": summary_of(self.absolute, values=True),
            "cosine": summary_of(self.cosine, values=True),
            "estimated": self._estimated(),
            "per_task": {
                "relative": summary_of(self.task_relative) | {"undefined": self.task_undefined},
                "absolute": summary_of(self.task_absolute),
                "cosine": summary_of(self.task_cosine),
                "over_g": summary_of(self.over_g),
            },
        }

    def _estimated(self) -> dict[str, Any] | None:
        """The estimates of the error, per task, and how many times too large they are."""
        if not self.task_estimated:
            return None
        pairs = zip(self.task_estimated, self.task_relative, strict=True)
        ratios = [e / t for e, t in pairs if t > 0 and math.isfinite(e)]
        return {
            **summary_of(self.task_estimated, values=True),
            "true": list(self.task_relative),
            "over_true": summary_of(ratios),
        }


def compare(estimate: Tensor, exact: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|difference|, |exact| and cosine along the last axis."""
    size, own = exact.norm(dim=-1), estimate.norm(dim=-1)
    angle = (estimate * exact).sum(-1) / (size * own)
    return (estimate - exact).norm(dim=-1), size, angle


def summary_of(numbers: Sequence[float], values: bool = False) -> dict[str, Any]:
    """Mean with its 95% Student t half-width, median, n and the largest; the numbers too, if
    asked."""
    out: dict[str, Any] = {"mean": None, "ci95": None, "median": None, "n": len(numbers),
                           "max": None}  # fmt: skip
    if numbers:
        found = mean_ci95(numbers)
        half = found.ci95 if math.isfinite(found.ci95) else None  # one value has no interval
        middle = statistics.median(numbers)
        out = {"mean": found.mean, "ci95": half, "median": middle, "n": found.n,
               "max": max(numbers)}  # fmt: skip
    return out | ({"values": list(numbers)} if values else {})
