"""Pictures, from plain numbers: nothing here sees a model. PNG, SVG or PDF by the file's suffix."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binomctl.errors import ConfigError, cannot_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
Target = Path | io.StringIO
"""Where a picture goes: a file, or a page that it becomes an <svg> element of."""


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


def save(figure: Figure, target: Target) -> None:
    """Write a picture; raises ConfigError where the folder cannot be written to."""
    if isinstance(target, io.StringIO):
        figure.savefig(target, format="svg", metadata={"Date": None})
        return
    metadata: dict[str, Any] = {"Date": None} if target.suffix.lower() == ".svg" else {}
    if target.suffix.lower() == ".pdf":
        metadata = {"CreationDate": None}
    try:
        figure.savefig(target, dpi=150, metadata=metadata)
    except OSError as error:
        raise cannot_write(target, error.strerror) from error


def as_svg(draw: Callable[[Target], None]) -> str:
    """What `draw` draws, as an <svg> element."""
    file = io.StringIO()
    draw(file)
    return re.sub(r"^.*?(?=<svg)", "", file.getvalue(), flags=re.DOTALL).strip()


def style(axes: Any, title: str, xlabel: str, ylabel: str = "") -> None:
    """The look that all panels share."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def over_L(axes: Any) -> None:
    """Errors or bounds over L: a log axis, ticks at whole L."""
    axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)


def caption(figure: Figure, text: str) -> None:
    """The setting, over the whole picture, broken where the picture ends."""
    width = int(figure.get_size_inches()[0] * 13)  # letters of this size in so many inches
    figure.suptitle("\n".join(textwrap.wrap(text, max(20, width))), fontsize=9, parse_math=False)


def legend_below(figure: Figure, panels: Sequence[Any]) -> None:
    """One legend for all panels, under them: data lie nowhere beneath it. The picture grows by
    its rows, so that the panels keep their size."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    width, height = figure.get_size_inches()
    column = 0.6 + 0.062 * max(map(len, entries))
    columns = max(1, min(len(entries), int(width / column)))
    rows = -(-len(entries) // columns)
    figure.set_size_inches(width, height + 0.19 * rows)
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns,
                  frameon=False, fontsize=8)  # fmt: skip


def whiskers(values: Sequence[dict[str, Any]]) -> list[list[float]]:
    """Lengths below and above the means of 95% intervals ({"mean", "ci95"}), for a log axis.

    The upper end is exact. A lower end that is not above 0 has no place on the axis: it is put at
    0, and is drawn down to the axis' bottom.
    """
    halves = [v["ci95"] or 0.0 for v in values]
    below = [min(half, v["mean"]) for half, v in zip(halves, values, strict=True)]
    return [below, halves]
