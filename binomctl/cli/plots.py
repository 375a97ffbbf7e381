"""Small plots in the terminal: bars on a log scale, in a table's last column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from binomctl.reporting.figure_bounds import CURVES
from binomctl.reporting.look import look

if TYPE_CHECKING:
    from binomctl.theory.bounds import Curve

BARS = {"truncmaml": "━", "binommaml": "═"}  # told apart without colours too
ROWS = 12
NARROW = 76  # columns that the widest table needs


def bound_tables(curves: Sequence[Curve], width: int) -> list[tuple[str, Table]]:
    """One theorem: its L down the rows, at most ROWS of them, methods and sources across.

    Where the terminal is wide enough a last column draws TruncMAML's and BinomMAML's bounds as
    bars on a common log scale; where it is narrow every source has a table of its own and says
    which it is.
    """
    paper, other = curves[0], curves[1] if len(curves) > 1 else None
    if width < NARROW:
        return [(f" ({c.source})" if other else "", _narrow(c)) for c in curves]
    columns: list[tuple[str, list[Decimal]]] = [("FOMAML", paper.fomaml)]
    if other:
        columns.append(("corrected", other.fomaml))
    columns.append(("TruncMAML", paper.truncmaml))
    if other and other.truncmaml != paper.truncmaml:
        columns.append(("corrected", other.truncmaml))
    columns.append(("BinomMAML", paper.binommaml))
    table = _table([name for name, _ in columns])
    room = width - 8 - 13 * len(columns)
    if room >= 12:
        table.add_column("Trunc ━, Binom ═ (log)")
    bars = [paper.truncmaml, paper.binommaml]
    logs = [float(v.log10()) for values in bars for v in values if v > 0]
    low, high = (min(logs), max(logs)) if logs else (0.0, 1.0)
    for i in _spread(len(paper.L)):
        row: list[str | Text] = [str(paper.L[i]), *(worded(values[i]) for _, values in columns)]
        if room >= 12:
            row.append(_bars([v[i] for v in bars], low, high, min(room, 40)))
        table.add_row(*row)
    return [("", table)]


def _narrow(curve: Curve) -> Table:
    table = _table(["FO", "Trunc", "Binom"])
    table.padding = (0, 1, 0, 0)
    for i in _spread(len(curve.L)):
        values = (curve.fomaml[i], curve.truncmaml[i], curve.binommaml[i])
        table.add_row(str(curve.L[i]), *(worded(v, 2) for v in values))
    return table


def _table(names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("L", *names):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def worded(value: Decimal, digits: int = 4) -> str:
    """So many digits; an exponent of any size."""
    if value == 0:
        return "0"
    plain = -4 <= value.adjusted() < digits
    return f"{float(value):.{digits}g}" if plain else f"{value:.{digits - 1}e}"


def _spread(n: int) -> list[int]:
    """At most ROWS indices from 0 to n - 1, evenly."""
    if n <= ROWS:
        return list(range(n))
    return [round(i * (n - 1) / (ROWS - 1)) for i in range(ROWS)]


def _bars(values: Sequence[Decimal], low: float, high: float, room: int) -> Text:
    lines = []
    for value, (method, mark) in zip(values, BARS.items(), strict=True):
        share = (float(value.log10()) - low) / ((high - low) or 1.0) if value > 0 else -math.inf
        length = 0 if share == -math.inf else 1 + round(share * (room - 1))
        lines.append(Text(mark * length, style=look(CURVES[method][0])["color"]))
    return Text("\n").join(lines)
