"""Pictures of measured errors, from reports alone: Figures 3a and 3b of BinomGBML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from binomctl.reporting.figure_along import draw_along
from binomctl.reporting.figure_bounds import CURVES
from binomctl.reporting.figures import (
    Target,
    caption,
    legend_below,
    new_figure,
    over_L,
    save,
    style,
    whiskers,
)
from binomctl.reporting.labels import label_of, setting_of
from binomctl.reporting.look import look, looks


def draw_errors(reports: Sequence[dict[str, Any]], target: Target) -> None:
    """Error against L (Figure 3b); against the batch where one L was measured (3a); against the
    step of training where several checkpoints were. Beside it, with a spectrum, per task in units
    of |g| under the bounds."""
    if len(reports) > 1:
        draw_along(reports, target)
        return
    report = reports[0]
    bounded = bool(report["spectrum"])
    figure = new_figure(10.5 if bounded else 6.0, 4.0)
    panels = figure.subplots(1, 2 if bounded else 1, squeeze=False)[0]
    if len({e["L"] for e in report["errors"] if e["L"] is not None}) == 1:
        _by_batch(panels[0], report)
    else:
        _by_order(panels[0], report)
    if bounded:
        _under_bounds(panels[1], report)
    caption(figure, setting_of(report))
    legend_below(figure, panels)
    save(figure, target)


Group = tuple[str, list[dict[str, Any]], dict[str, Any]]
"""A curve's label, its records by L, its look."""


def _groups(report: dict[str, Any]) -> list[Group]:
    found: dict[str, list[dict[str, Any]]] = {}
    for error in report["errors"]:
        found.setdefault(label_of(error), []).append(error)
    shown = looks([(group[0]["estimator"], label) for label, group in found.items()])
    return [(*one, how) for one, how in zip(found.items(), shown, strict=True)]


def _line(axes: Any, group: list[dict[str, Any]], pick: Any, label: str, how: Any) -> None:
    """Means over L with 95% CI bars; an estimator without L is a level line in its interval."""
    points = [(e["L"], pick(e)) for e in group]
    points = [(L, v) for L, v in points if v["mean"]]
    if not points:
        return
    values = [v for _, v in points]
    if points[0][0] is None:
        below, above = whiskers(values)
        mean, (colour, line) = values[0]["mean"], (how["color"], how["linestyle"])
        axes.axhline(mean, color=colour, linestyle=line, label=label, lw=1.2)
        axes.axhspan(mean - below[0], mean + above[0], color=colour, alpha=0.12, lw=0)
        return
    Ls, means = [L for L, _ in points], [v["mean"] for v in values]
    axes.errorbar(Ls, means, yerr=whiskers(values), label=label, capsize=2, **how)


def _by_order(axes: Any, report: dict[str, Any]) -> None:
    over_L(axes)
    for label, group, how in _groups(report):
        _line(axes, group, lambda e: e["relative"], label, how)
    title = "relative error of the meta-gradient (mean, 95% CI)"
    style(axes, title, "L", "|estimate - exact| / |exact|")


def _by_batch(axes: Any, report: dict[str, Any]) -> None:
    L = next(e["L"] for e in report["errors"] if e["L"] is not None)
    for label, group, how in _groups(report):
        values = group[0]["relative"]["values"]
        axes.plot(range(1, len(values) + 1), values, label=label,
                  **how | {"linestyle": "", "markersize": 4})  # fmt: skip
    axes.set_yscale("log")
    style(axes, f"relative error, L = {L}", "batch", "|estimate - exact| / |exact|")


def _under_bounds(axes: Any, report: dict[str, Any]) -> None:
    over_L(axes)
    for label, group, how in _groups(report):
        _line(axes, group, lambda e: e["per_task"]["over_g"], label, how)
    lines = {"3.6": ":", "3.8": "--", "3.10": "-."}
    for curve in report["spectrum"]["bounds"]:
        if curve["source"] == "paper" and _has_corrected(report, curve["theorem"]):
            continue  # the corrected one is the one that holds
        for method, (estimator, _) in CURVES.items():
            pairs = [(L, v) for L, v in zip(curve["L"], curve[method], strict=True) if v > 0]
            axes.plot(
                [L for L, _ in pairs],
                [v for _, v in pairs],
                linestyle=lines[curve["theorem"]],
                color=look(estimator)["color"],
                label=f"{method}, bound {curve['theorem']}",
                lw=1,
            )
    style(axes, "per task, under the bounds (mean, 95% CI)", "L", "|estimate - exact| / |g|")


def _has_corrected(report: dict[str, Any], theorem: str) -> bool:
    return any(
        c["theorem"] == theorem and c["source"] == "corrected" for c in report["spectrum"]["bounds"]
    )
