"""Validation along training, a curve a method, a band over its seeds: Figure 5 of BinomGBML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from binomctl.reporting.figures import Target, legend_below, new_figure, save, style
from binomctl.reporting.intervals import mean_ci95
from binomctl.reporting.look import looks

SEEDS = 3


@dataclass(frozen=True)
class Curve:
    """A method's validations and meta-training losses: of every run step -> value; and its number
    among the methods."""

    estimator: str
    label: str
    runs: Sequence[Mapping[int, float]]
    losses: Sequence[Mapping[int, float]] = ()
    number: int = 0


def draw_curves(
    curves: Sequence[Curve], metric: str, share: bool, target: Target, ids: str = "curve"
) -> None:
    """Validation, and beside it the loss of the meta-batches where all have it; means over seeds.

    The band is a 95% interval over seeds (Student t), from three on: of two it is wider than the
    picture.

    Args:
        ids: what a method's lines and bands are called in an SVG, before the method's number.
    """
    losses = all(curve.losses for curve in curves)
    figure = new_figure(10.5 if losses else 9.0, 4.2)
    panels = figure.subplots(1, 2 if losses else 1, squeeze=False)[0]
    drawn = looks([(c.estimator, c.label) for c in curves])
    for curve, its in zip(curves, drawn, strict=True):
        name, label = f"{ids}{curve.number}", curve.label.replace("$", r"\$")
        _draw(panels[0], curve.runs, 100.0 if share else 1.0, {"label": label, **its}, name)
        if losses:
            plain = its | {"marker": "", "linewidth": 1}
            _draw(panels[1], curve.losses, 1.0, plain, f"{name}-loss")
    style(panels[0], "", "meta-step", f"validation {metric}{' (%)' if share else ''}")
    if losses:
        style(panels[1], "", "meta-step", "loss of the meta-batch")
    for panel in panels:
        panel.set_xlim(left=0)  # around a single point an axis would show parts of steps
        panel.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, panels)
    save(figure, target)


def _draw(
    axes: Any, runs: Sequence[Mapping[int, float]], scale: float, how: dict[str, Any], name: str
) -> None:
    steps = sorted(set.intersection(*(set(run) for run in runs)))
    values = [mean_ci95([run[s] for run in runs]) for s in steps]
    if len(steps) == 1 and not how.get("marker"):
        how = how | {"marker": "."}  # a line of one point is nothing
    axes.plot(steps, [scale * v.mean for v in values], gid=f"{name}-line", **how)
    if len(runs) >= SEEDS:
        low = [scale * (v.mean - v.ci95) for v in values]
        high = [scale * (v.mean + v.ci95) for v in values]
        axes.fill_between(steps, low, high, color=how["color"], alpha=0.12, linewidth=0,
                          gid=f"{name}-band")  # fmt: skip
