"""How far estimators are from the exact meta-gradient, on a model and data of one's own.

One pass by rows, K (K+1) / 2 Hessian-vector products a batch, gives the exact meta-gradient and
every expansion estimator at every L; other estimators run their own inner loop besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from binomctl.adapt import adapt_and_validate
from binomctl.analysis.measured import Errors, compare, summary_of
from binomctl.analysis.spectrum import Spectrum, spectrum
from binomctl.contracts import (
    Adaptation,
    Adapted,
    Expands,
    Expansion,
    Proximal,
    Starts,
)
from binomctl.curvature.traits import threads_for
from binomctl.errors import NonFiniteError
from binomctl.expansion import combine, elementary_rows, estimated_error, passed_by
from binomctl.problem.cases import Case
from binomctl.problem.engines import at_full_precision
from binomctl.problem.record import Problem
from binomctl.starting import to_theta
from binomctl.theory.bounds import THEOREMS, Curve, Setting, curves, failed_assumption


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
        with threads_for(problem.engine, B):
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
                    error, size, _ = compare(rounded[:, :d].mean(0), exact[:, :d].mean(0))
                    cost.append(float(error / size))
            if not exact.isfinite().all():
                raise NonFiniteError(
                    f"the exact meta-gradient of batch {i} is not finite",
                    "The inner loop diverges: lower adaptation.alpha.",
                )
            wanted = _learned(problem, to_theta(adapted.trajectory, exact[:, :d])[0])
            for record in errors:
                estimator, own = record.case.estimator, adapted
                if isinstance(estimator, Proximal):  # another inner loop
                    inner = replace(how, proximal=estimator.proximal)
                    keep = estimator.steps(how.K)
                    own, _, _ = adapt_and_validate(problem.engine, theta, batch, inner, keep)
                try:
                    estimate = _estimate(record, own, rows)
                except NonFiniteError:  # one estimator's failure is not the others'
                    record.add_failure(len(batch))
                    continue
                found = _learned(problem, to_theta(adapted.trajectory, estimate[:, :d])[0])
                estimated = estimated_error(estimator, own) if with_estimates else None
                record.add(found, wanted, _learned(problem, adapted.g_phi), estimated)
            if with_spectrum:
                spectra.append(spectrum(adapted, seed=i))
        yield errors, spectra


def _estimate(record: Errors, adapted: Adapted, rows: list[Tensor]) -> Tensor:
    """What a case says of a batch, [B, D]: an expansion costs nothing beyond the rows."""
    estimator = record.case.estimator
    if not isinstance(estimator, Expands):
        return record.estimate(adapted)
    which = estimator.expansion(adapted.K, adapted.alpha)
    return passed_by(adapted, combine(rows, which), adapted.K - which.C)


def _learned(problem: Problem, rows: Tensor) -> Tensor:
    """What the outer loop learns of meta-gradients [B, d]; the rest is zero."""
    return rows if problem.learned is None else problem.learned * rows


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
    lowest = torch.cat([s.lowest for s in spectra])
    H = float(torch.cat([s.H for s in spectra]).max())
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
