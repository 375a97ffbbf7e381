"""Meta-steps of several runs in turn, so that whatever else the machine does meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
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
    return {key: spread(values[warm_up:]) for key, values in times.items()}


def spread(ms: Iterable[float], digits: int = 2) -> dict[str, Any]:
    """Median, p10, p90 and n of some times."""
    ordered = sorted(ms)
    n = len(ordered)
    return {
        "median_ms": round(statistics.median(ordered), digits),
        "p10_ms": round(ordered[n // 10], digits),
        "p90_ms": round(ordered[9 * n // 10], digits),
        "n": n,
    }
