"""Small plots in the terminal: bars on a log scale, in a table's last column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from binomctl.bounds import Curve

STYLES = {"fomaml": "white", "truncmaml": "blue", "binommaml": "red"}
ROWS = 12


def bound_table(title: str, curves: Sequence[Curve], width: int) -> Table:
    """One theorem: its L down the rows, at most ROWS of them, methods and sources across.

    The last column draws TruncMAML's and BinomMAML's bounds as bars on a common log scale, where
    the terminal is wide enough.
    """
    paper = curves[0]
    other = curves[1] if len(curves) > 1 else None
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    columns: list[tuple[str, list[Decimal]]] = [("FOMAML", paper.fomaml)]
    if other:
        columns.append(("corrected", other.fomaml))
    columns.append(("TruncMAML", paper.truncmaml))
    if other and other.truncmaml != paper.truncmaml:
        columns.append(("corrected", other.truncmaml))
    columns.append(("BinomMAML", paper.binommaml))
    table.add_column("L", justify="right")
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    room = width - 6 - 13 * len(columns)
    if room >= 12:
        table.add_column("TruncMAML, BinomMAML (log scale)")
    bars = [paper.truncmaml, paper.binommaml]
    logs = [float(v.log10()) for values in bars for v in values if v > 0]
    low, high = (min(logs), max(logs)) if logs else (0.0, 1.0)
    for i in _spread(len(paper.L)):
        row: list[str | Text] = [str(paper.L[i]), *(worded(values[i]) for _, values in columns)]
        if room >= 12:
            row.append(_bars([v[i] for v in bars], low, high, min(room, 40)))
        table.add_row(*row)
    return table


def worded(value: Decimal) -> str:
    """Five digits; an exponent of any size."""
    return "0" if value == 0 else f"{value:.4g}" if -4 <= value.adjusted() < 5 else f"{value:.4e}"


def _spread(n: int) -> list[int]:
    """At most ROWS indices from 0 to n - 1, evenly."""
    if n <= ROWS:
        return list(range(n))
    return [round(i * (n - 1) / (ROWS - 1)) for i in range(ROWS)]


def _bars(values: Sequence[Decimal], low: float, high: float, room: int) -> Text:
    text = Text()
    for value, style in zip(values, (STYLES["truncmaml"], STYLES["binommaml"]), strict=True):
        share = (float(value.log10()) - low) / ((high - low) or 1.0) if value > 0 else -math.inf
        length = 0 if share == -math.inf else 1 + round(share * (room - 1))
        text.append("━" * length + ("\n" if style == STYLES["truncmaml"] else ""), style=style)
    return text
