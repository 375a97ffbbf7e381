"""What an error analysis found, as JSON and as rows of CSV: schema binomctl/error-analysis/1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from binomctl.analysis.measured import Errors, summary_of
from binomctl.problem.build import resolved
from binomctl.problem.record import Problem
from binomctl.reporting.labels import options_text
from binomctl.theory.bounds import METHODS


def report_of(
    problem: Problem,
    step: int | None,
    errors: Sequence[Errors],
    summary: dict[str, Any] | None,
    bounds: Sequence[Any],
    cost: Sequence[float],
) -> dict[str, Any]:
    """One analysis.

    Args:
        step: of the checkpoint that was analysed; None at initialisation.
        summary, bounds: of the spectrum, where it was measured.
        cost: relative errors of products in fewer bits, where they are.
    """
    products = {"products": problem.config.engine.precision, "error": summary_of(list(cost))}
    return {
        "schema": "binomctl/error-analysis/1",
        "step": step,
        "config": resolved(problem.config).model_dump(mode="json"),
        "spectrum": summary and {**summary, "bounds": [_curve(c) for c in bounds]},
        "precision": products if cost else None,
        "errors": [e.report() for e in errors],
    }


def _curve(curve: Any) -> dict[str, Any]:
    return {
        "theorem": curve.theorem,
        "source": curve.source,
        "L": curve.L,
        **{m: [float(v) for v in getattr(curve, m)] for m in METHODS},
    }


def joined(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """One report as it is; several, one per checkpoint, under "along"."""
    if len(reports) == 1:
        return reports[0]
    return {
        "schema": "binomctl/error-analysis/1",
        "config": reports[0]["config"],
        "along": [{k: r[k] for k in ("step", "spectrum", "precision", "errors")} for r in reports],
    }


def csv_rows(reports: list[dict[str, Any]]) -> Iterator[list[Any]]:
    keys, figures = ["estimator", "L", "C", "alpha_scaling"], ["mean", "ci95", "median", "n", "max"]
    yield ["step", *keys, "options", "measure", *figures]
    for r in reports:
        for e in r["errors"]:
            measures = {k: e[k] for k in ("relative", "absolute", "cosine")}
            measures |= {f"per_task_{k}": v for k, v in e["per_task"].items()}
            measures |= {"per_task_estimated": e["estimated"]} if e["estimated"] else {}
            for name, v in measures.items():
                yield [
                    r["step"],
                    *(e[k] for k in keys),
                    options_text(e),
                    name,
                    *(v[k] for k in figures),
                ]
