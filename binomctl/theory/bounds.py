"""Upper bounds on the error of FOMAML, TruncMAML and BinomMAML, as factors of |g|.

Theorems 3.6, 3.8 and 3.10 of BinomGBML as printed, and corrected bounds where the printed ones do
not hold for Hessians that do not commute (docs/bounds.md). Plain 50-digit decimals: binomial
coefficients are exact integers, and nothing overflows for K up to 10,000 and beyond.

a = alpha H throughout; L runs along every curve.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Theorem = Literal["3.6", "3.8", "3.10"]
Source = Literal["paper", "corrected"]
THEOREMS: tuple[Theorem, ...] = ("3.6", "3.8", "3.10")
Method = Literal["fomaml", "truncmaml", "binommaml"]
METHODS: tuple[Method, ...] = ("fomaml", "truncmaml", "binommaml")
"""The fields of a curve."""
_CONTEXT = decimal.Context(prec=50, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


def _typed(number: float) -> Decimal:
    """The shortest decimal that gives this float, which is what somebody typed."""
    return Decimal(repr(float(number)))


@dataclass(frozen=True)
class Setting:
    """What the theorems are about.

    K inner steps of size alpha; |H_k| <= H; the last M Hessians are at least h (Theorem 3.10).
    """

    K: int
    alpha: float
    H: float
    h: float
    M: int

    @property
    def a(self) -> Decimal:
        """alpha H of the numbers as typed: 0.1 times 10 is 1."""
        return _typed(self.alpha) * _typed(self.H)

    @property
    def kept(self) -> Decimal:
        """1 - alpha h, likewise."""
        return 1 - _typed(self.alpha) * _typed(self.h)


@dataclass(frozen=True)
class Curve:
    """The three bounds of one theorem over L, factors of |g|."""

    theorem: Theorem
    source: Source
    L: list[int]
    fomaml: list[Decimal]
    truncmaml: list[Decimal]
    binommaml: list[Decimal]

    def over(self, unit: list[Decimal]) -> Curve:
        """Every value over the unit's at the same L."""

        def divided(values: list[Decimal]) -> list[Decimal]:
            return [_CONTEXT.divide(v, u) for v, u in zip(values, unit, strict=True)]

        return Curve(
            self.theorem,
            self.source,
            self.L,
            divided(self.fomaml),
            divided(self.truncmaml),
            divided(self.binommaml),
        )


def normalized(curves: list[Curve]) -> list[Curve]:
    """All curves over the paper's bound for FOMAML of the same theorem, as in Figure 2."""
    units = {c.theorem: c.fomaml for c in curves if c.source == "paper"}
    return [c.over(units[c.theorem]) for c in curves]


def failed_assumption(theorem: Theorem, s: Setting) -> str | None:
    """Why a theorem does not apply, a sentence; None when it does."""
    a = s.a
    if theorem != "3.6" and a > 1:
        return f"Theorem {theorem} assumes alpha H <= 1; here alpha H = {float(a):g}."
    if theorem == "3.10":
        if s.h > s.H:
            return f"Theorem 3.10 assumes h <= H; here h = {s.h:g} and H = {s.H:g}."
        if s.h <= 0:
            return f"Theorem 3.10 assumes strong convexity, h > 0; here h = {s.h:g}."
        if not 1 <= s.M <= s.K // 2:
            return (
                f"Theorem 3.10 assumes 1 <= M <= min(L, K - L) for some L, so M <= K/2; here"
                f" M = {s.M} and K = {s.K}."
            )
    return None


def curves(s: Setting, theorems: Iterable[Theorem] = THEOREMS) -> list[Curve]:
    """The curves of the theorems whose assumptions hold, the paper's and the corrected ones."""
    out: list[Curve] = []
    makers = {"3.6": _lipschitz, "3.8": _convex, "3.10": _strongly_convex}
    with decimal.localcontext(_CONTEXT):
        for theorem in theorems:
            if failed_assumption(theorem, s) is None:
                out += makers[theorem](s)
    return out


def averaged(n: int, a: Decimal) -> Decimal:
    """|I - A_1 ... A_n| <= 2 n a / (2 + (n-1) a) for 0 <= H_k <= H, 0 < a <= 1.

    Every A_k is (a/2)-averaged; a composition of averaged operators is averaged (Combettes and
    Yamada 2015, proposition 2.5), and |I - T| <= 2 theta for a theta-averaged T.
    """
    return 2 * n * a / (2 + (n - 1) * a) if n else Decimal(0)


def _lipschitz(s: Setting) -> list[Curve]:
    """(11a), (11b), (11c): attained at H_k = -H I."""
    a, K = s.a, s.K
    Ls = list(range(K + 1))
    grown = _powers(1 + a, K)
    fo = [grown[K] - 1] * len(Ls)
    trunc = [grown[K] - grown[L] for L in Ls]
    return [Curve("3.6", "paper", Ls, fo, trunc, _tails(K, a))]


def _convex(s: Setting) -> list[Curve]:
    """(12a), (12b), (12c); the first two corrected."""
    a, K = s.a, s.K
    Ls = list(range(K + 1))
    shrunk = _powers(1 - a, K)
    fo = [1 - shrunk[K]] * len(Ls)
    trunc = [1 - shrunk[K - L] for L in Ls]
    powers = _powers(a, K)
    binom = [*(_decimal(c) * powers[j] for j, c in enumerate(_binomials(K)) if j), Decimal(0)]
    corrected = [averaged(K - L, a) for L in Ls]
    return [
        Curve("3.8", "paper", Ls, fo, trunc, binom),
        Curve("3.8", "corrected", Ls, [averaged(K, a)] * len(Ls), corrected, binom),
    ]


def _strongly_convex(s: Setting) -> list[Curve]:
    """(13a), (13b), (13c), L from M to K - M, and L = K, where nothing is left out."""
    a, K, M = s.a, s.K, s.M
    Ls = [*range(M, K - M + 1), K]
    grown, kept, powers = _powers(1 + a, K), _powers(s.kept, M), _powers(a, K + 1)
    damped = kept[M]
    printed = max(grown[K - M] * damped - 1, 1 - _powers(1 - a, K)[K])
    corrected = averaged(M, a) + (grown[K - M] - 1) * damped
    trunc = [(grown[K - M] - grown[L - M]) * damped for L in Ls]
    tails = _tails(K - M, a)
    weights = [Decimal(0)] * (K + 1)  # sum over l = 1..M of C(K-l, L) (1 - alpha h)^(l-1)
    for l in range(1, M + 1):
        for L, c in enumerate(_binomials(K - l)):
            weights[L] += _decimal(c) * kept[l - 1]
    binom = [
        powers[L + 1] * weights[L] + (damped * tails[L] if L <= K - M else Decimal(0)) for L in Ls
    ]
    return [
        Curve("3.10", "paper", Ls, [printed] * len(Ls), trunc, binom),
        Curve("3.10", "corrected", Ls, [corrected] * len(Ls), trunc, binom),
    ]


def _tails(K: int, a: Decimal) -> list[Decimal]:
    """Sum over l = L+1..K of C(K, l) a^l, for L = 0..K, added from the far end."""
    powers, binomials = _powers(a, K), _binomials(K)
    out = [Decimal(0)] * (K + 1)
    for L in reversed(range(K)):
        out[L] = out[L + 1] + _decimal(binomials[L + 1]) * powers[L + 1]
    return out


def _powers(base: Decimal, n: int) -> list[Decimal]:
    """base^0 .. base^n."""
    out = [Decimal(1)]
    for _ in range(n):
        out.append(out[-1] * base)
    return out


def _decimal(integer: int) -> Decimal:
    """An integer to 50 digits; by its leading 256 bits where it has thousands of them."""
    shift = integer.bit_length() - 256
    if shift <= 0:
        return Decimal(integer)
    return Decimal(integer >> shift) * Decimal(2) ** shift


def _binomials(n: int) -> list[int]:
    """C(n, 0) .. C(n, n), exact integers."""
    out = [1]
    for l in range(n):
        out.append(out[-1] * (n - l) // (l + 1))
    return out
