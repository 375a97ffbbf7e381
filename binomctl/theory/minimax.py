"""Weights of the orders e_0 .. e_L that are best over a spectrum: the minimax polynomial.

Were all H_k one matrix with alpha H in [lo, hi], the exact meta-gradient would be (1 - x)^K of it
and order j C(K, j) (-x)^j; sum over j of c_j C(K, j) (-x)^j is to be as near as it can. Taylor's
c_j = 1 are BinomMAML's.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GRID, ROUNDS = 400, 30


@lru_cache(maxsize=4096)
def minimax_weights(K: int, L: int, lo: float, hi: float) -> tuple[Array, float]:
    """c_0 .. c_L [L+1], and the largest |difference| over [lo, hi].

    By Remez' exchange on a grid of Chebyshev points; between N + 1 of them a polynomial of degree K
    is at most 1 / cos(pi K / 2N) times its largest value there (Ehlich and Zeller 1964), which the
    largest difference is multiplied by. lo = hi gives Taylor's weights about no interval: all 1.
    """
    if L >= K or not hi > lo:
        return np.ones(L + 1), 0.0 if L >= K else math.nan
    n = max(GRID, 100 * K)
    x = (lo + hi) / 2 - (hi - lo) / 2 * np.cos(np.linspace(0, np.pi, n))
    wanted = (1 - x) ** K
    basis = np.stack([math.comb(K, j) * (-x) ** j for j in range(L + 1)], 1)
    scale = np.abs(basis).max(0)
    scaled = basis / scale
    reference = np.linspace(0, n - 1, L + 2).round().astype(int)
    best: tuple[float, Array] = (math.inf, np.ones(L + 1))
    for _ in range(ROUNDS):
        signs = (-1.0) ** np.arange(L + 2)
        system = np.concatenate([scaled[reference], signs[:, None]], 1)
        solved = np.linalg.lstsq(system, wanted[reference], rcond=None)[0]
        error = wanted - scaled @ solved[:-1]
        largest = float(np.abs(error).max())
        if largest < best[0]:
            best = (largest, solved[:-1] / scale)
        if largest <= abs(solved[-1]) * (1 + 1e-9):
            break
        reference = _extrema(error, L + 2)
    return best[1], best[0] / math.cos(math.pi * K / (2 * (n - 1)))


def _extrema(error: Array, n: int) -> NDArray[np.intp]:
    """The n places of alternating sign where an error is largest, as they lie."""
    runs: list[int] = []
    for i in range(len(error)):
        if runs and np.sign(error[i]) == np.sign(error[runs[-1]]):
            if abs(error[i]) > abs(error[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    while len(runs) > n:  # drop at the weaker end: the others keep their signs
        del runs[0 if abs(error[runs[0]]) < abs(error[runs[-1]]) else -1]
    while len(runs) < n:  # rounding has flattened it: fill up with any others
        runs = sorted({*runs, next(i for i in range(len(error)) if i not in runs)})
    return np.array(runs)
