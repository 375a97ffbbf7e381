"""A picture of estimates of the error against the error itself, from a report alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from binomctl.reporting.figures import caption, legend_below, new_figure, save, style
from binomctl.reporting.labels import label_of, setting_of
from binomctl.reporting.look import looks, shade

MOST = 200  # tasks of one estimator: more hide one another
ROUNDING = 1e-13  # below it an estimator is exact, and nothing is estimated


def draw_estimates(report: dict[str, Any], path: Path) -> None:
    """One point a task; on the line an estimate is right, above it too careful."""
    figure = new_figure(6.0, 4.8)
    axes = figure.subplots()
    known = [e for e in report["errors"] if e["estimated"]]
    seen: list[float] = []
    shown = looks([(e["estimator"], label_of(e)) for e in known])
    for error, how in zip(known, shown, strict=True):
        found = error["estimated"]
        pairs = list(zip(found["true"], found["values"], strict=True))
        pairs = [(t, e) for t, e in pairs if t > ROUNDING and e > 0][:MOST]
        if not pairs:
            continue
        seen += [v for pair in pairs for v in pair]
        order = "" if error["L"] is None else f", L = {error['L']}"
        Ls = [e["L"] for e in known if label_of(e) == label_of(error) and e["L"] is not None]
        if Ls:
            how |= {"color": shade(how["color"], error["L"], Ls)}
        ratio = found["over_true"]["median"]
        axes.plot(
            [t for t, _ in pairs],
            [e for _, e in pairs],
            alpha=0.5,
            label=f"{label_of(error)}{order} (median {ratio:.2g} times)",
            **how | {"markersize": 3, "linestyle": ""},
        )
    if seen:
        ends = [min(seen), max(seen)]
        axes.plot(ends, ends, color="0.4", lw=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
    style(axes, "estimates of the relative error, per task", "relative error", "its estimate")
    caption(figure, setting_of(report))
    legend_below(figure, [axes])
    save(figure, path)
