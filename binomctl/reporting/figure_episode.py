"""A picture of one episode: support and query, as images or as points. Takes arrays alone."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binomctl.errors import ConfigError
from binomctl.reporting.figures import legend_below, new_figure, save
from binomctl.reporting.look import COLOURS, tint

MOST = 8  # query images shown per class


def draw_images(
    title: str,
    support: tuple[NDArray[Any], NDArray[Any]],
    query: tuple[NDArray[Any], NDArray[Any]],
    names: Sequence[str],
    path: Path,
) -> None:
    """A row a class: its support images, then its query images, `MOST` at most.

    Args:
        support, query: (x [N, H, W, C] in [0, 1], y [N] class indices).
        names: of the classes 0 .. ways - 1.
        path: .png, .svg or .pdf.
    """
    sides = [[x[y == c] for c in range(len(names))] for x, y in (support, query)]
    shown = [min(MOST, max(len(rows) for rows in side)) for side in sides]
    hidden = max(len(rows) for rows in sides[1]) - shown[1]
    columns, rows = sum(shown), len(names)
    widest = min(26, max(map(len, names)))
    left = 0.35 + 0.085 * widest
    figure = new_figure(left + 0.62 * columns + 0.5, 0.62 * rows + 0.95)
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    gap = 0.16
    for c, name in enumerate(names):
        y0 = 1 - (0.78 + 0.62 * (c + 1)) / height
        figure.text((left - 0.12) / width, y0 + 0.29 / height, _wrapped(name, widest),
                    ha="right", va="center", fontsize=9, parse_math=False)  # fmt: skip
        for side, start in ((0, 0), (1, shown[0])):
            for i, image in enumerate(sides[side][c][: shown[side]]):
                x0 = (left + 0.62 * (start + i) + gap * side) / width
                axes = figure.add_axes((x0, y0, 0.58 / width, 0.58 / height))
                axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray",
                            vmin=0, vmax=1, interpolation="nearest")  # fmt: skip
                axes.set_axis_off()
    y_head = 1 - 0.66 / height
    figure.text(left / width, y_head, "support", fontsize=9, color="0.35")
    more = f" ({hidden} more per class)" if hidden > 0 else ""
    figure.text((left + 0.62 * shown[0] + gap) / width, y_head, f"query{more}", fontsize=9,
                color="0.35")  # fmt: skip
    figure.text(0.12 / width, 1 - 0.32 / height, title, fontsize=11, parse_math=False)
    save(figure, path)


def draw_points(
    title: str,
    support: tuple[NDArray[Any], NDArray[Any]],
    query: tuple[NDArray[Any], NDArray[Any]],
    path: Path,
) -> None:
    """A regression task: query points as a curve, support points on it (x and y [N, 1])."""
    if support[0].shape[1] != 1 or support[1].shape[1] != 1:
        raise ConfigError("a curve needs one input and one output")
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    order = np.argsort(query[0][:, 0])
    line, dot = tint(COLOURS[1], 0.6), COLOURS[2]
    axes.plot(query[0][order, 0], query[1][order, 0], color=line, label="query")
    axes.plot(support[0][:, 0], support[1][:, 0], "o", color=dot, label="support")
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(figure, [axes])
    save(figure, path)


def _wrapped(name: str, widest: int) -> str:
    """On three lines at most, which a row has room for."""
    return "\n".join(textwrap.wrap(name, widest, max_lines=3, placeholder=" …")) or name
