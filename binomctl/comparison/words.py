"""A comparison's numbers as tables show them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

TIME = "time: of training, as a multiple of the reference's; beside other work it says little."


@dataclass(frozen=True)
class Words:
    """A row: the mean with its standard error as papers print it, the difference with its 95%
    interval, p, training time as a multiple of the reference's, the verdict."""

    label: str
    mean: str
    difference: str
    p: str
    time: str
    verdict: str


def words(pair: dict[str, Any], report: dict[str, Any]) -> Words:
    """Of one method in a comparison."""
    share = report["unit"] == "share"
    difference = p = "-"
    if pair["difference"] is not None:
        difference = number(pair["difference"], share, sign=True)
        if pair["ci95"] is not None:
            low, high = (number(end, share, sign=True) for end in pair["ci95"])
            difference += f" ({low} to {high})"
        p = "< 0.001" if pair["p_holm"] < 0.001 else f"{pair['p_holm']:.3f}"
    ratio = pair["seconds_ratio"]
    mean, error = number(pair["mean"], share), pair["standard_error"]
    return Words(
        pair["label"],
        mean if error is None or math.isinf(error) else f"{mean} ± {number(error, share)}",
        difference,
        p,
        "-" if ratio is None else f"{ratio:.2f}x",
        pair["verdict"],
    )


def number(value: float, share: bool, sign: bool = False) -> str:
    """A share in percent, with two digits; other numbers with four significant ones."""
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.2f}" if share else f"{value:{plus}.4g}"
