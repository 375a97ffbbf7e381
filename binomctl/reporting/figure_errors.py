"""Pictures of measured errors, from reports alone: Figures 3a and 3b of BinomGBML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from binomctl.reporting.figures import PALETTE, look, new_figure, save, style
from binomctl.reporting.labels import named

BOUNDS = {"fomaml": 0, "truncmaml": 1, "binommaml": 2}


def draw_errors(reports: Sequence[dict[str, Any]], path: Path) -> None:
    """Error against L (Figure 3b); against the batch where one L was measured (3a); against the
    step of training where several checkpoints were. Beside it, with a spectrum, per task in units
    of |g| under the bounds."""
    first = reports[0]
    bounded = bool(first["spectrum"]) and len(reports) == 1
    figure = new_figure(10.5 if bounded else 6.0, 4.2)
    axes = figure.subplots(1, 2 if bounded else 1, squeeze=False)[0]
    Ls = {e["L"] for e in first["errors"] if e["L"] is not None}
    if len(reports) > 1:
        _along(axes[0], reports)
    elif len(Ls) == 1:
        _by_batch(axes[0], first)
    else:
        _by_order(axes[0], first)
    if bounded:
        _under_bounds(axes[1], first)
    a, n = first["config"]["adaptation"], first["config"]["analysis"]["batches"]
    tasks = first["config"]["training"]["meta_batch"]
    figure.suptitle(
        f"{first['config']['dataset']['name']}, K = {a['K']}, alpha = {a['alpha']:g},"
        f" {first['config']['dtype']}, {n} batches of {tasks} tasks",
        fontsize=10,
    )
    save(figure, path)


def label_of(error: dict[str, Any]) -> str:
    label = named(error)
    if error["C"] is not None:
        label += f", C = {error['C']}"
    return label + (", alpha' = L alpha/K" if error["alpha_scaling"] == "paper" else "")


def _groups(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = {}
    for error in report["errors"]:
        out.setdefault(label_of(error), []).append(error)
    return out


def _line(axes: Any, group: list[dict[str, Any]], pick: Any, label: str, i: int) -> None:
    """Means over L with 95% CI bars; an estimator without L is a level line."""
    points = [(e["L"], pick(e)) for e in group]
    points = [(L, v) for L, v in points if v["mean"]]
    if not points:
        return
    if points[0][0] is None:
        axes.axhline(points[0][1]["mean"], color=PALETTE[i % len(PALETTE)], label=label, lw=1.2)
        return
    axes.errorbar(
        [L for L, _ in points],
        [v["mean"] for _, v in points],
        yerr=[min(v["ci95"] or 0.0, 0.999 * v["mean"]) for _, v in points],
        label=label,
        capsize=2,
        **look(i),
    )


def _by_order(axes: Any, report: dict[str, Any]) -> None:
    for i, (label, group) in enumerate(_groups(report).items()):
        _line(axes, group, lambda e: e["relative"], label, i)
    axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    title = "relative error of the meta-gradient (mean, 95% CI)"
    style(axes, title, "L", "|estimate - exact| / |exact|")
    axes.legend(frameon=False, fontsize=8)


def _by_batch(axes: Any, report: dict[str, Any]) -> None:
    L = next(e["L"] for e in report["errors"] if e["L"] is not None)
    for i, (label, group) in enumerate(_groups(report).items()):
        values = group[0]["relative"]["values"]
        axes.plot(range(1, len(values) + 1), values, linestyle="", label=label, **look(i))
    axes.set_yscale("log")
    style(axes, f"relative error, L = {L}", "batch", "|estimate - exact| / |exact|")
    axes.legend(frameon=False, fontsize=8)


def _along(axes: Any, reports: Sequence[dict[str, Any]]) -> None:
    keys = [(label_of(e), e["L"]) for e in reports[0]["errors"]]
    for i, (label, L) in enumerate(keys):
        points = []
        for report in reports:
            for e in report["errors"]:
                if (label_of(e), e["L"]) == (label, L) and e["relative"]["mean"]:
                    points.append((report["step"], e["relative"]["mean"]))
        name = label if L is None else f"{label}, L = {L}"
        axes.plot([s for s, _ in points], [v for _, v in points], label=name, **look(i))
    axes.set_yscale("log")
    style(axes, "relative error along training", "meta-step", "|estimate - exact| / |exact|")
    axes.legend(frameon=False, fontsize=7, ncols=2)


def _under_bounds(axes: Any, report: dict[str, Any]) -> None:
    for i, (label, group) in enumerate(_groups(report).items()):
        _line(axes, group, lambda e: e["per_task"]["over_g"], label, i)
    styles = {"3.6": ":", "3.8": "--", "3.10": "-."}
    for curve in report["spectrum"]["bounds"]:
        if curve["source"] == "paper" and _has_corrected(report, curve["theorem"]):
            continue  # the corrected one is the one that holds
        for method, i in BOUNDS.items():
            pairs = [(L, v) for L, v in zip(curve["L"], curve[method], strict=True) if v > 0]
            axes.plot(
                [L for L, _ in pairs],
                [v for _, v in pairs],
                linestyle=styles[curve["theorem"]],
                color=PALETTE[i],
                label=f"{method}, bound {curve['theorem']}",
                lw=1,
            )
    axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    style(axes, "per task, under the bounds", "L", "|estimate - exact| / |g|")
    axes.legend(frameon=False, fontsize=7)


def _has_corrected(report: dict[str, Any], theorem: str) -> bool:
    return any(
        c["theorem"] == theorem and c["source"] == "corrected" for c in report["spectrum"]["bounds"]
    )
