"""A contact sheet: the pictures of a task with what a network took them for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from binomctl.reporting.figures import Target, caption, new_figure, save

COLUMNS = 10
MOST = 200  # pictures of a sheet
RIGHT, WRONG, OPEN = "#00805D", "#C84E00", "#1b1b1b"  # apart without the red or green receptor too


def draw_sheet(
    support: Sequence[tuple[str, Sequence[NDArray[Any]]]],
    queries: Sequence[tuple[NDArray[Any], str, float, str | None]],
    title: str,
    target: Target,
) -> None:
    """The support set, a row a class; below it every query under its label and probability; what
    is wrong is said in words, and framed.

    Args:
        support: classes with their pictures [H, W, C].
        queries: picture, label, probability, and what is right where that is known.
    """
    shown = queries[:MOST]
    lines = [(name, list(pictures)[:COLUMNS]) for name, pictures in support]
    below = -(-len(shown) // COLUMNS)
    figure = new_figure(0.95 * COLUMNS, 0.8 * len(lines) + 1.12 * below + 0.7)
    ratios = [0.8] * len(lines) + [1.12] * below
    axes = figure.subplots(len(lines) + below, COLUMNS, height_ratios=ratios, squeeze=False)
    for one in axes.flat:
        one.set_axis_off()
    for row, (name, pictures) in zip(axes, lines, strict=False):
        for one, picture in zip(row, pictures, strict=False):
            _show(one, picture)
        row[0].set_title(name, fontsize=9, loc="left", pad=2, parse_math=False)
    for one, (picture, label, share, truth) in zip(axes[len(lines) :].flat, shown, strict=False):
        _show(one, picture)
        wrong = truth is not None and truth != label
        text = f"{label} {share:.0%}" + (f"\nis {truth}" if wrong else "")
        colour = OPEN if truth is None else WRONG if wrong else RIGHT
        one.set_title(text, fontsize=8, color=colour, pad=2, parse_math=False)
        if wrong:
            one.set_axis_on()
            one.set_xticks([])
            one.set_yticks([])
            for spine in one.spines.values():
                spine.set(color=WRONG, linewidth=2)
    left = f"; {len(queries) - MOST:,} of the queries are not shown" if len(queries) > MOST else ""
    caption(figure, f"{title}{left}")
    save(figure, target)


def _show(axes: Any, picture: NDArray[Any]) -> None:
    grey = picture.shape[-1] == 1
    axes.imshow(picture[..., 0] if grey else picture, cmap="gray" if grey else None,
                vmin=0, vmax=255)  # fmt: skip
