"""A user's own numbers, in CSV files, as the examples of a regression."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import torch
from torch import Tensor

from binomctl.errors import DataError

_NEXT = "Give a CSV file, a row an example: its inputs, then its targets where they are known."


def read_numbers(path: Path, columns: tuple[int, ...]) -> Tensor:
    """The rows of a CSV file, with or without a line of names: [N, columns].

    Args:
        columns: how many it may have.

    Raises:
        DataError: no such file, no rows, another number of columns, something that is no number;
            the line is named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(i, row) for i, row in enumerate(csv.reader(file), 1) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or "it is no text"
        if path.is_dir():
            why = "it is a folder, and the network learned on numbers, not on pictures"
        raise DataError(f"cannot read {path}: {why}", _NEXT) from error
    rows: list[list[float]] = []
    for place, (line, row) in enumerate(lines):
        try:
            values = [float(cell) for cell in row]
        except ValueError:
            if place == 0 and not any(map(_is_number, row)):  # the names of the columns
                continue
            raise DataError(
                f"{path}:{line}: {', '.join(row)[:80]} are not all numbers", _NEXT
            ) from None
        if len(values) not in columns or (rows and len(values) != len(rows[0])):
            said = " or ".join(map(str, sorted(set(columns))))
            raise DataError(f"{path}:{line}: {len(values)} columns, expected {said}", _NEXT)
        if not all(map(math.isfinite, values)):
            raise DataError(f"{path}:{line}: a number is not finite", _NEXT)
        rows.append(values)
    if not rows:
        raise DataError(f"{path} holds no row of numbers", _NEXT)
    return torch.tensor(rows, dtype=torch.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
