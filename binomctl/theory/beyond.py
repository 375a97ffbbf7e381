"""Upper bounds on the errors of estimators beyond the paper's, as factors of |g|.

All by |A B| <= |A| |B| and the expansion of a product (proofs in docs/beyond.md). The Hessians may
shrink along the path, |H_k| <= H decay^k, and stay near one matrix, |H_k - Hbar| <= change H.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from binomctl.theory.minimax import minimax_weights

LARGEST = 300  # steps: doubles hold (1 + alpha H)^K and C(K, j) up to there


@dataclass(frozen=True)
class Path:
    """K steps of size alpha; |H_k| <= H decay^k and |H_k - Hbar| <= change H for every k."""

    K: int
    alpha: float
    H: float
    decay: float = 1.0
    change: float = 0.0

    @property
    def a(self) -> float:
        return self.alpha * self.H

    @property
    def each(self) -> NDArray[np.float64]:
        """alpha |H_k|, [K]."""
        return np.asarray(self.a * self.decay ** np.arange(self.K))


def trunc(p: Path, L: int) -> float:
    """|(A_0 ... A_{K-L-1} - I) A_{K-L} ... A_{K-1}|: attained at H_k = -|H_k| I."""
    grown = 1 + p.each
    return float(grown[p.K - L :].prod() * (grown[: p.K - L].prod() - 1))


def head(p: Path, L: int) -> float:
    """|A_0 ... A_{L-1} (A_L ... A_{K-1} - I)|: attained at H_k = -|H_k| I."""
    grown = 1 + p.each
    return float(grown[:L].prod() * (grown[L:].prod() - 1))


def binom(p: Path, L: int) -> float:
    """Sum over j > L of e_j(alpha |H_0|, ..., alpha |H_{K-1}|): attained at H_k = -|H_k| I."""
    e = np.zeros(p.K + 1)
    e[0] = 1
    for x in p.each:
        e[1:] += x * e[:-1].copy()
    return float(e[L + 1 :].sum())


def deflated(p: Path, L: int) -> float:
    """Sum over j > L of C(K, j) (alpha |R|)^j |P|^(K-j), |R| <= change H, |P| <= 1 + alpha H: where
    the low rank is Hbar itself; what it leaves of Hbar counts as change."""
    r, P = p.alpha * p.change * p.H, 1 + p.a
    terms = (math.comb(p.K, j) * r**j * P ** (p.K - j) for j in range(L + 1, p.K + 1))
    return math.fsum(terms)


def minimax(p: Path, L: int) -> float:
    """The minimax error over [-alpha H, alpha H], which is the error for one Hessian, and what
    changing ones add: alpha change H (K (1 + a)^(K-1) + sum of |c_j| j C(K, j) a^(j-1))."""
    c, worst = minimax_weights(p.K, L, -p.a, p.a)
    if L >= p.K:
        return 0.0
    moved = p.K * (1 + p.a) ** (p.K - 1)
    moved += math.fsum(
        abs(float(c[j])) * j * math.comb(p.K, j) * p.a ** (j - 1) for j in range(1, L + 1)
    )
    return worst + p.alpha * p.change * p.H * moved


BOUNDS: dict[str, Callable[[Path, int], float]] = {
    "trunc": trunc,
    "head": head,
    "binom": binom,
    "deflated": deflated,
    "minimax": minimax,
}


def beyond_curves(p: Path) -> dict[str, list[float]]:
    """Every bound over L = 0 .. K."""
    return {name: [bound(p, L) for L in range(p.K + 1)] for name, bound in BOUNDS.items()}
