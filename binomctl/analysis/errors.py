"""How far estimators are from the exact meta-gradient, on a model and data of one's own.

One pass by rows, K (K+1) / 2 Hessian-vector products a batch, gives the exact meta-gradient and
every expansion estimator at every L; other estimators run their own inner loop besides.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from binomctl.adapt import adapt_and_validate
from binomctl.analysis.spectrum import Spectrum, spectrum
from binomctl.contracts import (
    Adaptation,
    Adapted,
    EstimatesError,
    Expands,
    Expansion,
    Proximal,
    Remembers,
    Starts,
)
from binomctl.errors import NonFiniteError
from binomctl.expansion import (
    binomial_adjoints,
    combine,
    elementary_rows,
    error_estimate,
    passed_by,
)
from binomctl.problem.cases import Case
from binomctl.problem.engines import at_full_precision
from binomctl.problem.record import Problem
from binomctl.reporting.intervals import mean_ci95
from binomctl.starting import to_theta
from binomctl.theory.bounds import THEOREMS, Curve, Setting, curves, failed_assumption


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
        error, size, angle = (float(v) for v in _compare(estimate.mean(0), exact.mean(0)))
        self.absolute += [error] if math.isfinite(error) else []
        if size > 0 and math.isfinite(error):
            self.relative.append(error / size)
            self.cosine += [angle] if math.isfinite(angle) else []
        else:
            self.undefined += 1
        errors, sizes, angles = _compare(estimate, exact)
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


def _compare(estimate: Tensor, exact: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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


def analyse(
    problem: Problem,
    theta: Tensor,
    m: Tensor,
    cases: Sequence[Case],
    batches: int,
    *,
    step: int = 0,
    with_spectrum: bool = False,
    with_estimates: bool = False,
    cost: list[float] | None = None,
) -> Iterator[tuple[list[Errors], list[Spectrum]]]:
    """Measure the cases on the training batches 0 .. batches - 1, yielding after each one.

    Args:
        problem: data, model, rule and inner loop; its own estimator is not used.
        theta: where the inner loops start [d]; m: the rule's meta-parameters [n].
        cases: what to measure.
        batches: number of meta-batches of problem.config.training.meta_batch tasks.
        step: the meta-step whose weights of outer losses count.
        with_spectrum: run Lanczos on every H_k too.
        with_estimates: ask every expansion, and whatever else can say it, how large its error is
            by its own estimate: one more level of K products each.
        cost: takes, batch by batch, the relative error of the exact meta-gradient computed with
            products in engine.precision, where that is not full. All errors are against the exact
            one in full precision.

    Yields:
        The same growing records each time: errors by case, spectra by batch.
    """
    errors, spectra = [Errors(case) for case in cases], []
    B = problem.config.training.meta_batch
    low = problem.config.engine.precision != "full"
    precise = at_full_precision(problem).engine if low else problem.engine
    for i in range(batches):
        batch = problem.training_batch(range(i * B, (i + 1) * B))
        how = replace(problem.adaptation(batch, m, step=step), proximal=0.0)
        adapted, _, _ = adapt_and_validate(problem.engine, theta, batch, how, range(how.K))
        rows, d = elementary_rows(adapted), how.layout.d
        whole = Expansion(how.K, how.K, adapted.alpha)
        exact = combine(rows, whole)
        if low:
            there, _, _ = adapt_and_validate(precise, theta, batch, how, range(how.K))
            rounded, exact = exact, combine(elementary_rows(there), whole)
            if cost is not None:
                error, size, _ = _compare(rounded[:, :d].mean(0), exact[:, :d].mean(0))
                cost.append(float(error / size))
        if not exact.isfinite().all():
            raise NonFiniteError(
                f"the exact meta-gradient of batch {i} is not finite",
                "The inner loop diverges: lower adaptation.alpha.",
            )
        wanted, _ = to_theta(adapted.trajectory, exact[:, :d])
        for record in errors:
            estimator = record.case.estimator
            estimated = None
            if isinstance(estimator, Expands):
                which = estimator.expansion(how.K, adapted.alpha)
                estimate = passed_by(adapted, combine(rows, which), how.K - which.C)
                if with_estimates:
                    w = binomial_adjoints(adapted, which, cut=False)
                    estimated = error_estimate(adapted, w)
            else:
                own = adapted
                if isinstance(estimator, Proximal):  # another inner loop
                    inner = replace(how, proximal=estimator.proximal)
                    keep = estimator.steps(how.K)
                    own, _, _ = adapt_and_validate(problem.engine, theta, batch, inner, keep)
                try:
                    estimate = record.estimate(own)
                except NonFiniteError:  # one estimator's failure is not the others'
                    record.add_failure(len(batch))
                    continue
                if with_estimates and isinstance(estimator, EstimatesError):
                    estimated = estimator.error_estimate(own)
            found, _ = to_theta(adapted.trajectory, estimate[:, :d])
            record.add(found, wanted, adapted.g_phi, estimated)
        if with_spectrum:
            spectra.append(spectrum(adapted, seed=i))
        yield errors, spectra


def unbounded(how: Adaptation) -> str:
    """Why the theorems say nothing of an inner loop; "" where they do: they are about steps
    phi - alpha grad l_trn from theta, and the loss at phi^K alone."""
    if not (how.linear and how.rule.plain) or isinstance(how.rule, Starts):
        return "the theorems are about plain gradient descent from theta"
    if how.weights is not None:
        return "the theorems are about l_val(phi^K), not about outer losses at several steps"
    return ""


def matching_bounds(
    problem: Problem, spectra: Sequence[Spectrum], M: int = 1
) -> tuple[dict[str, Any], list[Curve]]:
    """The measured spectrum in the theorems' terms, and the bounds whose assumptions hold.

    H is the largest |curvature| met in any task and step, h the least eigenvalue of the last M
    steps. A loss counts as convex if no eigenvalue is below -1e-9 H.
    """
    how = problem.config.adaptation
    alpha, K = how.alpha, how.K
    highest = torch.cat([s.highest for s in spectra])
    lowest = torch.cat([s.lowest for s in spectra])
    H = float(torch.maximum(highest.abs(), lowest.abs()).max())
    h = float(lowest[:, K - M :].min())
    negative = torch.cat([s.negative for s in spectra])
    summary: dict[str, Any] = {
        "H": H,
        "lowest": float(lowest.min()),
        "alpha_H": alpha * H,
        "alpha_h": alpha * h,
        "M": M,
        "negative_share": summary_of(negative.flatten().tolist()),
    }
    setting = Setting(K, alpha, H, h, M)
    convex = float(lowest.min()) >= -1e-9 * H
    reasons: dict[str, str] = {}
    for theorem in THEOREMS:
        reason = failed_assumption(theorem, setting)
        if theorem == "3.8" and not convex:
            reason = f"Theorem 3.8 assumes convexity; an eigenvalue is {float(lowest.min()):.3g}."
        if reason:
            reasons[theorem] = reason
    holding = [t for t in THEOREMS if t not in reasons]
    summary |= {"theorems": holding, "left_out": reasons}
    return summary, curves(setting, holding)
