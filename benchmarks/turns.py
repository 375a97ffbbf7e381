"""Meta-steps of several runs in turn, so that whatever else the machine does meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)


def milliseconds(
    loops: Mapping[Key, Iterator[Any]], rounds: int, warm_up: int
) -> dict[Key, dict[str, float]]:
    """Median, p10 and p90 in ms of a step of every loop, over `rounds` rounds after `warm_up`."""
    times: dict[Key, list[float]] = {key: [] for key in loops}
    for _ in range(warm_up + rounds):
        for key, loop in loops.items():
            start = time.perf_counter()
            next(loop)
            times[key].append(1e3 * (time.perf_counter() - start))
    out = {}
    for key, values in times.items():
        ordered = sorted(values[warm_up:])
        n = len(ordered)
        out[key] = {
            "median_ms": round(statistics.median(ordered), 2),
            "p10_ms": round(ordered[n // 10], 2),
            "p90_ms": round(ordered[9 * n // 10], 2),
            "n": n,
        }
    return out
