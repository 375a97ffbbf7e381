"""Bounds of head, deflation and minimax hold on random Hessians, and are attained where said."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from command import binomctl

from binomctl.theory.beyond import BOUNDS, Path, beyond_curves
from binomctl.theory.minimax import minimax_weights

CASES = [
    Path(5, 0.25, 1.0), Path(6, 0.5, 2.0, decay=0.5, change=1.0),
    Path(4, 1.0, 1.5, decay=0.8, change=0.3), Path(8, 0.1, 1.0, change=0.05),
]  # fmt: skip


def symmetric(random, d, largest):
    """A random symmetric matrix of a norm, its signs random."""
    Q = np.linalg.qr(random.normal(size=(d, d)))[0]
    values = random.uniform(-1, 1, d)
    values[0] = random.choice([-1, 1])
    return Q * (largest * values) @ Q.T


def sequence(random, p, d=3):
    """H_0 .. H_{K-1} within |H_k| <= H decay^k and |H_k - Hbar| <= change H, and Hbar."""
    bar = symmetric(random, d, p.H * p.decay ** (p.K - 1) * random.uniform(0, 1))
    out = []
    for k in range(p.K):
        room = p.H * p.decay**k - np.linalg.norm(bar, 2)
        out.append(bar + symmetric(random, d, random.uniform(0, 1) * min(room, p.change * p.H)))
    return out, bar


def errors(p, H, bar, L):
    """Of every estimator at L, as operators, multiplied out."""
    d, eye = len(bar), np.eye(len(bar))
    A = [eye - p.alpha * h for h in H]

    def chain(ms):
        out = eye
        for m in ms:
            out = out @ m
        return out

    def expanded(base, parts, low):
        S = [eye] + [np.zeros((d, d))] * L  # orders apart
        for m in reversed(parts):
            S = [low @ S[0]] + [low @ S[j] - p.alpha * m @ S[j - 1] for j in range(1, L + 1)]
        return S

    exact = chain(A)
    orders = expanded(eye, H, eye)
    c, _ = minimax_weights(p.K, L, -p.a, p.a)
    return {
        "trunc": exact - chain(A[p.K - L :]),
        "head": exact - chain(A[:L]),
        "binom": exact - sum(orders),
        "deflated": exact - sum(expanded(eye, [h - bar for h in H], eye - p.alpha * bar)),
        "minimax": exact - sum(w * e for w, e in zip(c, orders, strict=True)),
    }


@pytest.mark.parametrize("p", CASES)
def test_no_sequence_of_hessians_is_above_a_bound(p):
    random = np.random.default_rng(7)
    nearest = dict.fromkeys(BOUNDS, 0.0)
    for _ in range(300):
        H, bar = sequence(random, p)
        for L in range(p.K + 1):
            for name, error in errors(p, H, bar, L).items():
                bound = BOUNDS[name](p, L)
                assert np.linalg.norm(error, 2) <= bound * (1 + 1e-9) + 1e-12, (name, L)
                if bound > 0:
                    nearest[name] = max(nearest[name], np.linalg.norm(error, 2) / bound)
    assert all(share > 0.001 for name, share in nearest.items() if BOUNDS[name](p, 1))


@pytest.mark.parametrize("p", CASES)
@pytest.mark.parametrize("name", ["trunc", "head", "binom"])
def test_they_are_attained_at_hessians_that_are_minus_identities(p, name):
    H = [-p.H * p.decay**k * np.eye(2) for k in range(p.K)]
    for L in range(p.K + 1):
        found = np.linalg.norm(errors(p, H, H[0], L)[name], 2)
        assert found == pytest.approx(BOUNDS[name](p, L), rel=1e-9, abs=1e-12)


def test_for_one_hessian_minimax_is_attained():
    p = Path(6, 0.3, 1.0)
    x = np.linspace(-1, 1, 4001)
    for L in range(6):
        c, worst = minimax_weights(6, L, -p.a, p.a)
        exact = (1 - p.a * x) ** 6
        said = sum(c[j] * math.comb(6, j) * (-p.a * x) ** j for j in range(L + 1))
        assert np.abs(exact - said).max() == pytest.approx(worst, rel=1e-3)
        assert BOUNDS["minimax"](p, L) == pytest.approx(worst)


def test_what_the_curves_say():
    """Heads are better than tails where curvature decays; deflation where Hessians stay."""
    still, early = Path(10, 0.5, 1.0, change=0.05), Path(10, 0.5, 1.0, decay=0.5)
    assert all(e < t for e, t in zip(beyond_curves(early)["head"][1:-1],
                                     beyond_curves(early)["trunc"][1:-1], strict=True))  # fmt: skip
    curves = beyond_curves(still)
    assert curves["deflated"][1] < 0.1 * curves["binom"][1]
    assert curves["minimax"][2] < curves["binom"][2]
    assert all(values[-1] == 0 for values in curves.values())


def test_the_command_prints_and_draws_them(tmp_path):
    out, _ = binomctl(
        "bounds", "--beyond", "--decay", "0.7", "--json", "--output", tmp_path / "b.png"
    )
    found = json.loads(out)["beyond"]
    assert found["decay"] == 0.7
    assert set(found["curves"]) == set(BOUNDS)
    assert (tmp_path / "b.png").stat().st_size > 10_000
    assert "head" in binomctl("bounds", "--beyond")[0]
    for *wrong, words in (["--decay", "1.5", "--decay 1.5"], ["--change", "-0.1", "--change -0.1"],
                          ["--K", "400", "--K 400"]):  # fmt: skip
        assert words in binomctl("bounds", "--beyond", *wrong, code=2)[1]
