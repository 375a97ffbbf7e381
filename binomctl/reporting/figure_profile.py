"""Figure 4 of BinomGBML from a profile's report alone: time, memory and utilisation over L."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from binomctl.reporting.figures import Target, caption, legend_below, new_figure, save, style
from binomctl.reporting.labels import named
from binomctl.reporting.look import looks

Cell = dict[str, Any]
Pick = Callable[[Cell], tuple[float, float, float] | None]
"""A cell -> its value with the ends of its spread, or None where it was not measured."""


def draw_profile(report: dict[str, Any], target: Target) -> None:
    """Three panels over L; an estimator without L is a level line."""
    figure = new_figure(11.4, 3.8)
    axes = figure.subplots(1, 3)
    panels: list[tuple[str, str, Pick]] = [
        ("time of a meta-step", "ms, median (p10 to p90)", _time),
        ("peak memory of a step", "MiB", _memory),
        ("utilisation", _meaning(report), _share),
    ]
    shown = groups(report)
    how = looks([(cells[0]["estimator"], label) for label, cells in shown.items()])
    for panel, (title, ylabel, pick) in zip(axes, panels, strict=True):
        for (label, cells), one in zip(shown.items(), how, strict=True):
            _curve(panel, cells, pick, label, one)
        style(panel, title, "L", ylabel)
        panel.set_ylim(0, 1.05 if pick is _share else None)
        panel.xaxis.get_major_locator().set_params(integer=True)
    caption(figure, _setting(report))
    legend_below(figure, axes)
    save(figure, target)


def _setting(report: dict[str, Any]) -> str:
    """The caption with alpha, and how many steps the numbers are of."""
    counts = [c["step_ms"]["n"] for c in report["cells"] if c["step_ms"]]
    steps = f", n = {min(counts)} to {max(counts)} steps a point" if counts else ""
    busy = "; the machine was busy" if report.get("busy") else ""
    return f"{report['caption']}, alpha = {report['config']['adaptation']['alpha']:g}{steps}{busy}"


def groups(report: dict[str, Any]) -> dict[str, list[Cell]]:
    """The cells by estimator (and C), in their order; failed ones left out."""
    out: dict[str, list[Cell]] = {}
    for cell in report["cells"]:
        if cell["failed"] is None and cell["step_ms"] is not None:
            label = named(cell) + (f", C = {cell['C']}" if cell["C"] is not None else "")
            out.setdefault(label, []).append(cell)
    return out


def _meaning(report: dict[str, Any]) -> str:
    for cell in report["cells"]:
        if cell["utilization"]:
            text: str = cell["utilization"]["meaning"]
            return "\n".join(textwrap.wrap(text, 34))
    return "not known"


def _time(cell: Cell) -> tuple[float, float, float]:
    v = cell["step_ms"]
    return v["median"], v["p10"], v["p90"]


def _memory(cell: Cell) -> tuple[float, float, float] | None:
    if cell["peak_memory_bytes"] is None:
        return None
    mib = cell["peak_memory_bytes"] / 2**20
    return mib, mib, mib


def _share(cell: Cell) -> tuple[float, float, float] | None:
    if not cell["utilization"]:
        return None
    value = cell["utilization"]["value"]
    return value, value, value


def _curve(axes: Any, cells: list[Cell], pick: Pick, label: str, how: Any) -> None:
    points = [(c["L"], v) for c in cells if (v := pick(c)) is not None]
    if not points:
        return
    if points[0][0] is None:
        axes.axhline(
            points[0][1][0], color=how["color"], linestyle=how["linestyle"], label=label, lw=1.2
        )
        return
    middle = [v for _, (v, _, _) in points]
    low = [v - lower for _, (v, lower, _) in points]
    high = [upper - v for _, (v, _, upper) in points]
    axes.errorbar([L for L, _ in points], middle, yerr=[low, high], label=label, capsize=2, **how)
