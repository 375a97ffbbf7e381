"""Tasks of varying ways and shots, drawn as Meta-Dataset draws them (Triantafillou et al. 2020,
section 3.2, with its code's rounding)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_WAYS = 5
MOST_SUPPORT = 500  # images of a task's support set
MOST_SHOTS = 100  # images of a class that count towards the size of the support set


@dataclass(frozen=True)
class VariedTask:
    """classes [w]: rows of the table of counts; shots [w]; queries, the same of every class."""

    classes: NDArray[np.int64]
    shots: NDArray[np.int64]
    queries: int


def draw(
    counts: NDArray[np.int64], most_ways: int, most_queries: int, random: np.random.Generator
) -> VariedTask:
    """A task: ways uniform between 5 and `most_ways`; at most half of a class are queries; the
    support set's size is uniform up to what its classes hold, and at most 500; the classes share
    it by their sizes times exp(a), a uniform in [log 1/2, log 2).

    Args:
        counts: images of every class, [C], at least 2 each.
        most_ways: and at most C.
        most_queries: of a class.
    """
    most = min(most_ways, len(counts))
    ways = int(random.integers(min(LEAST_WAYS, most), most + 1))
    classes = random.choice(len(counts), ways, replace=False)
    have = counts[classes]
    queries = int(min(most_queries, (have // 2).min()))
    each = np.floor(random.random() * np.minimum(MOST_SHOTS, have - queries) + 1)
    size = min(MOST_SUPPORT, int(each.sum()))
    share = np.exp(random.uniform(np.log(0.5), np.log(2.0), ways)) * have
    shots = np.floor(share / share.sum() * (size - ways)).astype(np.int64) + 1
    return VariedTask(classes, np.minimum(shots, have - queries), queries)
