"""A kept result read, and how its numbers are printed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MIB = 2**20

Numbers = Iterator[tuple[str, str]]


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:z.{digits}f}%"


def machine(result: Any) -> tuple[tuple[str, str], ...]:
    """Of what, with what and when a result is."""
    env = result["environment"]
    return (("cores", str(env["cores"])), ("torch", env["packages"]["torch"]),
            ("cpu", env["cpu"]), ("date", env["date"][:10]))  # fmt: skip


def between(values: Collection[float], digits: int = 1) -> str:
    low, high = (f"{f(values):.{digits}f}" for f in (min, max))
    return low if low == high else f"{low} to {high}"
