"""How the values of several groups are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from binomctl.reporting.figures import Target, new_figure, save, style
from binomctl.reporting.look import COLOURS

BINS = 40


def draw_groups(groups: Mapping[str, Sequence[float]], title: str, target: Target) -> None:
    """A row for each group: a histogram of its values on one axis, its mean marked and written."""
    figure = new_figure(6.4, 1.0 + 1.1 * len(groups))
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    low = min(min(values) for values in groups.values())
    high = max(max(values) for values in groups.values())
    room = 0.02 * (high - low) or 0.5
    bounds = (low - room, high + room)
    for i, (axis, (label, values)) in enumerate(zip(axes, groups.items(), strict=True)):
        colour, mean = COLOURS[(1 + i) % len(COLOURS)], sum(values) / len(values)
        axis.hist(list(values), bins=BINS, range=bounds, color=colour)
        axis.axvline(mean, color="0.2", linewidth=1, linestyle="--")
        style(axis, title if i == 0 else "", "", "")
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 1, "pad": 1.5}
        axis.text(0.01, 0.97, f"{label}: mean {mean:.3g}, n = {len(values)}", fontsize=9,
                  transform=axis.transAxes, va="top", bbox=box)  # fmt: skip
        axis.set_ylim(top=axis.get_ylim()[1] * 1.45)
        axis.set_yticks([])
    save(figure, target)
