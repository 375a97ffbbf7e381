"""Pictures, from plain numbers: nothing here sees a model. PNG, SVG or PDF by the file's suffix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binomctl.errors import ConfigError, cannot_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from binomctl.theory.bounds import Curve

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = {"fomaml": "#7f7f7f", "truncmaml": "#1f6fb2", "binommaml": "#c0392b"}
MARKERS = {"fomaml": "s", "truncmaml": "o", "binommaml": "^"}
NAMES = {"fomaml": "FOMAML", "truncmaml": "TruncMAML", "binommaml": "BinomMAML"}
PALETTE = ("#7f7f7f", "#1f6fb2", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#16a085", "#2c3e50")
MARKS = "so^Dv<>P"
TITLES = {"3.6": "smooth", "3.8": "smooth, convex", "3.10": "smooth, locally strongly convex"}


def check_suffix(path: Path) -> Path:
    """Refuse a picture format that cannot be written, before anything is computed.

    Raises:
        ConfigError: naming the suffix and the valid ones.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"cannot draw '{path}': unknown picture format '{path.suffix}'",
            f"Use one of {', '.join(SUFFIXES)}.",
        )
    return path


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own, without pyplot: no window system is ever asked for."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "binomctl"  # the same numbers give the same file
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a picture; raises ConfigError where the folder cannot be written to."""
    metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}
    if path.suffix.lower() == ".pdf":
        metadata = {"CreationDate": None}
    try:
        figure.savefig(path, dpi=150, metadata=metadata)
    except OSError as error:
        raise cannot_write(path, error.strerror) from error


def style(axes: Any, title: str, xlabel: str, ylabel: str = "") -> None:
    """The look that all panels share."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def look(i: int) -> dict[str, Any]:
    """Colour and marker of the i-th curve."""
    again = i // len(PALETTE)  # a colour that comes back has another marker
    mark = MARKS[(i + again) % len(MARKS)]
    return {"color": PALETTE[i % len(PALETTE)], "marker": mark, "markersize": 4}


def draw_bounds(
    curves: Sequence[Curve],
    caption: str,
    normalized: bool,
    path: Path,
    beyond: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Like Figure 2 of BinomGBML: a panel for every theorem, log axis, both sources.

    The paper's curves are solid; corrected ones, where they differ, dashed. A curve ends where its
    bound is 0. beyond: other estimators' bounds by name, L = 0 .. K, in a panel of their own.
    """
    theorems = list(dict.fromkeys(c.theorem for c in curves))
    panels = len(theorems) + bool(beyond)
    figure = new_figure(4.2 * panels + 0.4, 4.0)
    grid = figure.subplots(1, panels, squeeze=False)[0]
    if beyond:
        for i, (name, values) in enumerate(beyond.items()):
            points = [(L, v) for L, v in enumerate(values) if 0 < v < float("inf")]
            grid[-1].plot([L for L, _ in points], [v for _, v in points], label=name, **look(i))
        grid[-1].set_yscale("log")
        grid[-1].xaxis.get_major_locator().set_params(integer=True)
        style(grid[-1], "Beyond the paper", "L", "bound / |g|")
        grid[-1].legend(frameon=False, fontsize=8)
    for axes, theorem in zip(grid, theorems, strict=False):
        for curve in (c for c in curves if c.theorem == theorem):
            dashed = curve.source == "corrected"
            for method, colour in COLOURS.items():
                values = getattr(curve, method)
                if dashed and values == getattr(_paper(curves, theorem), method):
                    continue
                numbers = zip(curve.L, map(float, values), strict=True)
                pairs = [(L, v) for L, v in numbers if 0 < v < float("inf")]
                axes.plot(
                    [L for L, _ in pairs],
                    [v for _, v in pairs],
                    linestyle="--" if dashed else "-",
                    marker=MARKERS[method],
                    markersize=4,
                    markerfacecolor="white" if dashed else colour,
                    color=colour,
                    label=NAMES[method] + (", corrected" if dashed else ""),
                )
        axes.set_yscale("log")
        axes.xaxis.get_major_locator().set_params(integer=True)
        ylabel = "bound / the paper's for FOMAML" if normalized else "bound / |g|"
        style(axes, f"Theorem {theorem}: {TITLES[theorem]}", "L", ylabel if axes is grid[0] else "")
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(caption, fontsize=10)
    save(figure, path)


def _paper(curves: Sequence[Curve], theorem: str) -> Curve:
    return next(c for c in curves if c.theorem == theorem and c.source == "paper")
