"""A picture of errors along training, from the reports of a run's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from binomctl.reporting.figures import Target, caption, legend_below, new_figure, save, style
from binomctl.reporting.labels import label_of, setting_of
from binomctl.reporting.look import looks, shade

APART = 0.035  # of the axis' height, between the labels of two curves


def draw_along(reports: Sequence[dict[str, Any]], target: Target) -> None:
    """Mean relative error over meta-steps: an estimator's curves have its colour, the darker the
    higher L, and end in their L."""
    figure = new_figure(7.2, 4.8)
    axes = figure.subplots()
    axes.set_yscale("log")
    curves = [(e["estimator"], label_of(e), e["L"]) for e in reports[0]["errors"]]
    shown = looks([(name, label) for name, label, _ in curves])
    ends: list[tuple[float, float, str, str]] = []
    for (_, label, L), how in zip(curves, shown, strict=True):
        Ls = [l for _, other, l in curves if other == label and l is not None]
        colour = how["color"] if L is None else shade(how["color"], L, Ls)
        steps, means = _points(reports, label, L)
        if not steps:
            continue  # exact everywhere: nothing on a log axis
        name = label if L is None else f"{label}, L = {L}"
        axes.plot(steps, means, label=name, **how | {"color": colour, "markersize": 4})
        if L is not None:
            ends.append((steps[-1], means[-1], str(L), colour))
    style(axes, "relative error along training (mean)", "meta-step", "|estimate - exact| / |exact|")
    _name_ends(axes, ends)
    setting = setting_of(reports[0] | {"step": None})
    caption(figure, f"{setting}, {len(reports)} checkpoints; numbers at the curves' ends are L")
    legend_below(figure, [axes])
    save(figure, target)


def _points(
    reports: Sequence[dict[str, Any]], label: str, L: int | None
) -> tuple[list[float], list[float]]:
    found = [
        (report["step"], e["relative"]["mean"])
        for report in reports
        for e in report["errors"]
        if (label_of(e), e["L"]) == (label, L) and e["relative"]["mean"]
    ]
    return [step for step, _ in found], [mean for _, mean in found]


def _name_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Each curve's L behind its last point; those that would touch are moved up."""
    axes.autoscale_view()  # else the places are those of the axes before they saw the data
    to_share = axes.transData + axes.transAxes.inverted()
    last = float("-inf")
    places = [(float(to_share.transform((x, y))[1]), text, c) for x, y, text, c in ends]
    for height, text, colour in sorted(places):
        last = max(height, last + APART)
        axes.text(1.01, last, text, color=colour, fontsize=8, va="center",
                  transform=axes.transAxes)  # fmt: skip
