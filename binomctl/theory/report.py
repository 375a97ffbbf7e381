"""Bounds as JSON and as rows of CSV: schema binomctl/bounds/1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from binomctl.theory.bounds import METHODS, Curve, Setting, Theorem

if TYPE_CHECKING:  # it searches with numpy, which the bounds alone do without
    from binomctl.theory.certify import Finding


def report_of(
    s: Setting,
    found: list[Curve],
    normalized: bool,
    skipped: dict[Theorem, str],
    findings: list[Finding],
) -> dict[str, Any]:
    return {
        "schema": "binomctl/bounds/1",
        "K": s.K,
        "alpha": s.alpha,
        "H": s.H,
        "h": s.h,
        "M": s.M,
        "normalized": normalized,
        "curves": [
            {
                "theorem": c.theorem,
                "source": c.source,
                "L": c.L,
                **{m: [_number(v) for v in getattr(c, m)] for m in METHODS},
                "log10": {m: [_log10(v) for v in getattr(c, m)] for m in METHODS},
            }
            for c in found
        ],
        "skipped": skipped,
        "certified": [
            {
                "theorem": f.theorem,
                "method": f.method,
                "L": f.L,
                "found": f.factor,
                "paper": f.paper,
                "corrected": f.corrected,
                "violates_paper": f.violates_paper,
                "violates_corrected": f.violates_corrected,
                "witness": f.witness and str(f.witness),
            }
            for f in findings
        ],
    }


def csv_rows(found: list[Curve]) -> Iterator[list[Any]]:
    yield ["theorem", "source", "L", *METHODS]
    for c in found:
        for i, L in enumerate(c.L):
            yield [c.theorem, c.source, L, *(f"{getattr(c, m)[i]:.17g}" for m in METHODS)]


def _number(value: Decimal) -> float | None:
    """A JSON number, or null beyond the range of doubles (log10 says how large it is)."""
    number = float(value)
    return None if number in (float("inf"), float("-inf")) else number


def _log10(value: Decimal) -> float | None:
    if value <= 0:
        return None
    exponent = value.adjusted()
    return exponent + math.log10(float(value.scaleb(-exponent)))
