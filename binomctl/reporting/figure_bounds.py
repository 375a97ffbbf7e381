"""The bounds of BinomGBML's theorems as a picture, like its Figure 2, from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binomctl.reporting.figures import caption, legend_below, new_figure, over_L, save, style
from binomctl.reporting.look import look

if TYPE_CHECKING:
    from binomctl.theory.bounds import Curve

CURVES = {
    "fomaml": ("fomaml", "FOMAML"),
    "truncmaml": ("trunc", "TruncMAML"),
    "binommaml": ("binom", "BinomMAML"),
}
"""A theorem's curve -> the estimator that it bounds, and the paper's name of it."""
TITLES = {"3.6": "smooth", "3.8": "smooth, convex", "3.10": "smooth, locally strongly convex"}


def draw_bounds(
    curves: Sequence[Curve],
    setting: str,
    normalized: bool,
    path: Path,
    beyond: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """A panel for every theorem, log axis, both sources.

    The paper's curves are solid; corrected ones, where they differ, dashed. A curve ends where its
    bound is 0. beyond: other estimators' bounds by name, L = 0 .. K, in a panel of their own.
    """
    theorems = list(dict.fromkeys(c.theorem for c in curves))
    panels = len(theorems) + bool(beyond)
    figure = new_figure(4.2 * panels + 0.4, 4.0)
    grid = figure.subplots(1, panels, squeeze=False)[0]
    if beyond:
        names = dict(CURVES.values())  # one entry of the legend for one estimator
        for name, values in beyond.items():
            _curve(grid[-1], range(len(values)), values, names.get(name, name), look(name))
        over_L(grid[-1])
        style(grid[-1], "Beyond the paper", "L", "bound / |g|")
    for axes, theorem in zip(grid, theorems, strict=False):
        for curve in (c for c in curves if c.theorem == theorem):
            dashed = curve.source == "corrected"
            for method, (estimator, name) in CURVES.items():
                values = getattr(curve, method)
                if dashed and values == getattr(_paper(curves, theorem), method):
                    continue
                label = name + (", corrected" if dashed else "")
                _curve(axes, curve.L, values, label, look(estimator, int(dashed)))
        over_L(axes)
        ylabel = "bound / the paper's for FOMAML" if normalized else "bound / |g|"
        style(axes, f"Theorem {theorem}: {TITLES[theorem]}", "L", ylabel if axes is grid[0] else "")
    caption(figure, setting)
    legend_below(figure, grid)
    save(figure, path)


def _curve(axes: Any, Ls: Sequence[int], values: Sequence[Any], label: str, how: Any) -> None:
    numbers = zip(Ls, map(float, values), strict=True)
    pairs = [(L, v) for L, v in numbers if 0 < v < float("inf")]
    axes.plot([L for L, _ in pairs], [v for _, v in pairs], label=label, **how)


def _paper(curves: Sequence[Curve], theorem: str) -> Curve:
    return next(c for c in curves if c.theorem == theorem and c.source == "paper")
