"""One look for an estimator in every picture: its colour and marker come from its name alone.

Okabe and Ito's colours without yellow, which is lost on white, and a dark red and a dark blue:
apart from one another for eyes without the red or the green receptor too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

COLOURS = ("#000000", "#0072B2", "#C84E00", "#00805D", "#56B4E9", "#661100", "#CC79A7", "#E69F00",
           "#332288")  # fmt: skip
MARKERS = "^sv<PXDo"
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
LIGHTEST = 0.45  # of an estimator's colour, at its least L
FILLS = ("full", "none", "left", "bottom", "right")

# A name is hashed, so that no list of names is kept here and a plugin from elsewhere has its look
# too. The seed was searched for: under it the installed estimators fall on different looks.
SEED = 18717719


def look(name: str, variant: int = 0) -> dict[str, Any]:
    """Arguments of a matplotlib line for an estimator.

    Args:
        name: as registered; colour and marker depend on nothing else.
        variant: 0 with the plugin's defaults; other options have other lines and marker faces.
    """
    digest = hashlib.sha256(f"{SEED} {name}".encode()).digest()
    colour, marker = COLOURS[digest[0] % len(COLOURS)], MARKERS[digest[1] % len(MARKERS)]
    return _line(colour, marker, variant)


def looks(drawn: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """The looks of a picture's curves, in their order.

    Args:
        drawn: (estimator, label); a label that is the name alone is of the plugin's defaults, the
            others of an estimator are its variants, numbered as they come.
    """
    seen: dict[str, list[str]] = {}
    for name, label in drawn:
        variants = seen.setdefault(name, [name])
        if label not in variants:
            variants.append(label)
    return [look(name, seen[name].index(label)) for name, label in drawn]


def series(i: int) -> dict[str, Any]:
    """The i-th curve of a picture whose curves are no estimators (schedules, inner loops)."""
    # Nine colours and eight markers: a colour that comes back has another marker.
    return _line(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], 0)


def shade(colour: str, L: int, Ls: Sequence[int]) -> str:
    """A colour for one of several orders L of an estimator: the darker the higher."""
    low, high = min(Ls), max(Ls)
    share = 1.0 if low == high else (L - low) / (high - low)
    return tint(colour, LIGHTEST + (1 - LIGHTEST) * share)


def tint(colour: str, share: float) -> str:
    """A colour mixed with white: share 1 is the colour itself, 0 would be white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02X}" for part in parts)


def _line(colour: str, marker: str, variant: int) -> dict[str, Any]:
    again = variant % len(LINES)
    return {
        "color": colour,
        "marker": marker,
        "markersize": 5,
        "linestyle": LINES[again],
        "fillstyle": FILLS[again],
    }
