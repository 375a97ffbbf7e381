"""Theorems 3.6, 3.8 and 3.10 against direct evaluation with Fractions, and against matrices."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from command import here
from hypothesis import given, settings
from hypothesis import strategies as st

from binomctl.theory.bounds import Setting, curves, failed_assumption
from binomctl.theory.certify import (
    certify,
    save_witness,
    spectrum_limits,
    verified_factor,
    verify_witness,
)

FIGURE_2 = Setting(K=5, alpha=0.25, H=1.0, h=0.1, M=1)


def by_hand(theorem, source, s, L):
    """(fomaml, truncmaml, binommaml) as printed, or corrected, in exact fractions."""
    alpha, H, h = (Fraction(repr(v)) for v in (s.alpha, s.H, s.h))
    a, ah = alpha * H, alpha * h
    K, M, C = s.K, s.M, math.comb

    def averaged(n):
        return 2 * n * a / (2 + (n - 1) * a) if n else Fraction(0)

    if theorem == "3.6":
        binom = sum((C(K, l) * a**l for l in range(L + 1, K + 1)), Fraction(0))
        return (1 + a) ** K - 1, (1 + a) ** K - (1 + a) ** L, binom
    if theorem == "3.8":
        binom = C(K, L + 1) * a ** (L + 1)
        if source == "paper":
            return 1 - (1 - a) ** K, 1 - (1 - a) ** (K - L), binom
        return averaged(K), averaged(K - L), binom
    fo = max((1 + a) ** (K - M) * (1 - ah) ** M - 1, 1 - (1 - a) ** K)
    if source == "corrected":
        fo = averaged(M) + ((1 + a) ** (K - M) - 1) * (1 - ah) ** M
    trunc = ((1 + a) ** (K - M) - (1 + a) ** (L - M)) * (1 - ah) ** M
    near = sum((C(K - l, L) * (1 - ah) ** (l - 1) for l in range(1, M + 1)), Fraction(0))
    far = sum((C(K - M, l) * a**l for l in range(L + 1, K - M + 1)), Fraction(0))
    return fo, trunc, a ** (L + 1) * near + (1 - ah) ** M * far


@given(
    K=st.integers(1, 12),
    alpha=st.floats(1e-3, 3),
    H=st.floats(1e-2, 3),
    h=st.floats(1e-3, 1),
    M=st.integers(1, 6),
)
@settings(max_examples=150, deadline=None)
def test_every_curve_equals_direct_evaluation(K, alpha, H, h, M):
    s = Setting(K, alpha, H, h, M)
    found = curves(s)
    assert {c.theorem for c in found} == {
        t for t in ("3.6", "3.8", "3.10") if failed_assumption(t, s) is None
    }
    for c in found:
        for i, L in enumerate(c.L):
            for value, exact in zip(
                (c.fomaml[i], c.truncmaml[i], c.binommaml[i]),
                by_hand(c.theorem, c.source, s, L),
                strict=True,
            ):
                assert abs(Fraction(value) - exact) <= Fraction(10) ** -40 * max(abs(exact), 1)


def test_ten_thousand_steps_do_not_overflow():
    """a = 1/2: everything is an integer over 2^K."""
    K = 10_000
    (curve,) = curves(Setting(K, 0.5, 1.0, 0.1, 1), ["3.6"])
    terms, binomial = [], 1
    for l in range(K + 1):
        terms.append(binomial << (K - l))
        binomial = binomial * (K - l) // (l + 1)
    for L in (0, 1, 5_000, 9_999):
        exact = (3**K - 2**K, 3**K - 3**L * 2 ** (K - L), sum(terms[L + 1 :]))
        found = (curve.fomaml[L], curve.truncmaml[L], curve.binommaml[L])
        for value, numerator in zip(found, exact, strict=True):
            assert abs(Fraction(value) * 2**K - numerator) * 10**30 < numerator
    assert curve.fomaml[0].adjusted() == 1760  # far beyond a double


def operators(H, alpha, L):
    """Explicit matrices: MAML's, Trunc(L)'s, Binom(L)'s, by products and subset sums."""
    from itertools import combinations

    K, d = H.shape[:2]
    A = [np.eye(d) - alpha * H[k] for k in range(K)]
    exact = np.linalg.multi_dot([*A, np.eye(d)])
    trunc = np.linalg.multi_dot([np.eye(d), *A[K - L :], np.eye(d)])
    binom = np.zeros((d, d))
    for j in range(L + 1):
        for ks in combinations(range(K), j):
            term = np.eye(d)
            for k in ks:
                term = term @ H[k]
            binom += (-alpha) ** j * term
    return exact, trunc, binom


def test_11_is_attained_at_minus_H_times_the_identity():
    s = FIGURE_2
    (curve,) = curves(s, ["3.6"])
    H = np.broadcast_to(-s.H * np.eye(2), (s.K, 2, 2)).copy()
    for i, L in enumerate(curve.L):
        exact, trunc, binom = operators(H, s.alpha, L)
        assert np.linalg.norm(exact - np.eye(2), 2) == pytest.approx(float(curve.fomaml[i]))
        for estimate, bound in ((trunc, curve.truncmaml[i]), (binom, curve.binommaml[i])):
            assert np.linalg.norm(exact - estimate, 2) == pytest.approx(float(bound), abs=1e-12)


@pytest.mark.parametrize("theorem", ["3.6", "3.8", "3.10"])
def test_random_hessians_stay_below_the_corrected_bounds(theorem):
    random = np.random.default_rng(0)
    for _ in range(100):
        K = int(random.integers(2, 6))
        H_max = 1.0
        s = Setting(
            K, float(random.uniform(0.05, 1)), H_max, 0.3, int(random.integers(1, K // 2 + 1))
        )
        curve = curves(s, [theorem])[-1]
        low, high = spectrum_limits(theorem, s)
        basis = np.linalg.qr(random.standard_normal((K, 3, 3)))[0]
        values = low[:, None] + (high - low)[:, None] * random.integers(0, 2, (K, 3))
        H = (basis * values[:, None, :]) @ np.swapaxes(basis, 1, 2)
        H = (H + np.swapaxes(H, 1, 2)) / 2
        for i, L in enumerate(curve.L):
            exact, trunc, binom = operators(H, s.alpha, L)
            found = [np.linalg.norm(exact - e, 2) for e in (np.eye(3), trunc, binom)]
            bounds = (curve.fomaml[i], curve.truncmaml[i], curve.binommaml[i])
            for factor, bound in zip(found, bounds, strict=True):
                assert factor <= float(bound) * (1 + 1e-12) + 1e-12


def test_the_two_by_two_example_of_the_docs():
    """K = 2, alpha H = 1: projections on lines 60 degrees apart, and g = (1, 0)."""
    c, s = 0.5, math.sqrt(3) / 2
    H = np.array([np.diag([1.0, 0.0]), np.array([[c * c, c * s], [c * s, s * s]])])
    g = np.array([1.0, 0.0])
    error = g - (np.eye(2) - H[0]) @ (np.eye(2) - H[1]) @ g
    assert error == pytest.approx([1.0, math.sqrt(3) / 4])
    paper, corrected = curves(Setting(2, 1.0, 1.0, 0.5, 1), ["3.8"])
    assert float(paper.fomaml[0]) == 1.0 < np.linalg.norm(error) < float(corrected.fomaml[0])


@pytest.mark.parametrize(
    ("setting", "theorem", "method", "L", "worst"),
    [  # worst sequences known from independent searches
        (Setting(2, 1.0, 1.0, 0.5, 1), "3.8", "fomaml", 0, 2 / math.sqrt(3)),
        (Setting(3, 1.0, 1.0, 0.5, 1), "3.10", "fomaml", 0, 5 / 3),
        (Setting(5, 0.5, 1.0, 0.1, 1), "3.8", "truncmaml", 1, 0.9790),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (Setting(5, 0.5, 1.0, 0.1, 1), "3.8", "fomaml", 0, 1.0578),
                (Setting(5, 1.0, 1.0, 0.1, 1), "3.8", "truncmaml", 2, 9 / 7),
                (Setting(5, 0.5, 1.0, 0.1, 2), "3.10", "fomaml", 0, 2.0487),
            )
        ),
    ],
)
def test_known_violations_are_found_and_the_corrected_bound_holds(
    setting, theorem, method, L, worst, tmp_path
):
    findings = certify(setting, curves(setting, [theorem]))
    assert not any(f.violates_corrected for f in findings)
    (finding,) = (f for f in findings if (f.method, f.L) == (method, L))
    assert finding.violates_paper
    assert finding.factor == pytest.approx(worst, abs=1e-4)
    path = tmp_path / "w.npz"
    save_witness(path, setting, finding)
    assert verify_witness(path) == finding.factor
    with np.load(path) as file:  # anybody can multiply it out
        exact, trunc, _ = operators(file["H"], float(file["alpha"]), int(file["L"]))
        estimate = np.eye(len(exact)) if method == "fomaml" else trunc
        assert np.linalg.norm(exact - estimate, 2) == pytest.approx(finding.factor)


@pytest.mark.slow
def test_no_violation_is_reported_where_the_paper_s_bound_holds():
    findings = certify(FIGURE_2, curves(FIGURE_2))
    assert not any(f.violates_paper or f.violates_corrected for f in findings)
    attained = [f for f in findings if f.theorem == "3.6"]
    for f in attained:
        assert f.factor == pytest.approx(f.paper, rel=1e-6)
    assert certify(FIGURE_2, curves(FIGURE_2, ["3.8"]), seed=0)[0].factor == next(
        f.factor for f in findings if f.theorem == "3.8"
    )


def test_one_tenth_times_ten_is_one():
    assert failed_assumption("3.8", Setting(5, 0.1, 10.0, 0.1, 1)) is None


def test_the_search_does_not_depend_on_the_unit_of_H():
    small, large = Setting(3, 1.0, 1.0, 0.5, 1), Setting(3, 1e-6, 1e6, 5e5, 1)
    found = [certify(s, curves(s, ["3.8"]))[0].factor for s in (small, large)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_forged_witness_does_not_verify():
    setting = Setting(2, 1.0, 1.0, 0.5, 1)
    H = certify(setting, curves(setting, ["3.8"]))[0].hessians
    with pytest.raises(ValueError, match="leaves the range"):
        verified_factor("fomaml", 0, setting, "3.8", 2 * H)
    with pytest.raises(ValueError, match="not symmetric"):
        verified_factor("fomaml", 0, setting, "3.8", H + np.triu(np.full(H.shape[1:], 0.1), 1))


binomctl = partial(here, "bounds")


def test_json_has_the_agreed_keys_and_the_figure_s_defaults():
    done = binomctl("--json")
    report = json.loads(done.stdout)
    assert {k: report[k] for k in ("K", "alpha", "H", "h", "M")} == {
        "K": 5, "alpha": 0.25, "H": 1.0, "h": 0.1, "M": 1,
    }  # fmt: skip
    assert [(c["theorem"], c["source"]) for c in report["curves"]] == [
        ("3.6", "paper"), ("3.8", "paper"), ("3.8", "corrected"),
        ("3.10", "paper"), ("3.10", "corrected"),
    ]  # fmt: skip
    first = report["curves"][0]
    assert first["L"] == [0, 1, 2, 3, 4, 5]
    assert first["fomaml"][0] == pytest.approx(1.25**5 - 1)
    assert first["binommaml"][-1] == 0
    normal = json.loads(binomctl("--json", "--normalize").stdout)["curves"][0]
    assert normal["fomaml"] == [1.0] * 6
    assert normal["truncmaml"][2] == pytest.approx(first["truncmaml"][2] / first["fomaml"][2])


def test_values_beyond_a_double_are_null_with_their_logarithm():
    done = binomctl("--K", 3000, "--alpha", 1, "--theorem", "3.6", "--json")
    curve = json.loads(done.stdout)["curves"][0]
    assert curve["fomaml"][0] is None
    assert curve["log10"]["fomaml"][0] == pytest.approx(3000 * math.log10(2))


@pytest.mark.parametrize(
    ("args", "code", "words", "printed"),
    [
        (["--alpha", 2], 0, ["3.8 assumes alpha H <= 1", "3.10 assumes"], ["3.6"]),
        (["--h", 3], 0, ["3.10 assumes h <= H"], ["3.6", "3.8"]),
        (["--h", -0.1], 0, ["strong convexity"], ["3.6", "3.8"]),
        (["--M", 4], 0, ["M <= K/2; here M = 4 and K = 5"], ["3.6", "3.8"]),
        (["--M", 0], 0, ["M = 0"], ["3.6", "3.8"]),
        (["--theorem", "3.8", "--alpha", 2], 2, ["alpha H = 2"], []),
        (["--theorem", "3.7"], 2, ["unknown theorem '3.7'", "3.10, 3.6, 3.8, all"], []),
        (["--alpha", 0], 2, ["--alpha = 0.0 must be positive"], []),
        (["--H", "nan"], 2, ["--H = nan must be positive"], []),
        (["--K", 0], 2, ["--K = 0"], []),
        (["--output", "x.gif"], 2, ["'.gif'", ".png, .svg, .pdf"], []),
        (["--csv", "no/such/folder.csv"], 2, ["cannot write"], []),
    ],
)
def test_what_fails_is_named_and_the_rest_is_printed(args, code, words, printed):
    done = binomctl(*args)
    assert done.returncode == code
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    for theorem in ("3.6", "3.8", "3.10"):
        assert (f"Theorem {theorem}," in done.stdout) == (theorem in printed)


def test_pictures_and_csv(tmp_path):
    magic = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for suffix, start in magic.items():
        done = binomctl("--output", f"b.{suffix}", DISPLAY="")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"b.{suffix}").read_bytes().startswith(start)
    done = binomctl("--plot", "--csv", "b.csv", COLUMNS="40")
    assert "wrote bounds.png" in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 40
    assert "\u2026" not in done.stdout  # nothing is cut
    for width in ("60", "80", "120"):
        shown = binomctl(COLUMNS=width).stdout
        assert "\u2026" not in shown
        assert max(map(len, shown.splitlines())) <= int(width)
    rows = (tmp_path / "b.csv").read_text().splitlines()
    assert rows[0] == "theorem,source,L,fomaml,truncmaml,binommaml"
    assert len(rows) == 1 + 6 + 12 + 10


def test_certify_writes_its_witnesses(tmp_path):
    args = ("--K", 2, "--alpha", 1, "--theorem", "3.8", "--certify")
    done = binomctl(*args, "--json")
    report = json.loads(done.stdout)
    (first,) = (f for f in report["certified"] if f["method"] == "fomaml")
    assert first["violates_paper"]
    assert not first["violates_corrected"]
    assert first["found"] == pytest.approx(2 / math.sqrt(3))
    assert verify_witness(tmp_path / first["witness"]) == first["found"]
    before = (tmp_path / first["witness"]).read_bytes()
    shown = binomctl(*args)
    assert "wrote witness-3.8-fomaml-L0-2.npz" in shown.stderr
    assert (tmp_path / first["witness"]).read_bytes() == before
    assert "violates the paper's" in shown.stdout
    assert "VIOLATES THE CORRECTED" not in shown.stdout


def test_bounds_import_no_torch_and_no_matplotlib():
    code = """
import sys
sys.argv = ["binomctl", "bounds"]
from binomctl.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
loaded = [m for m in ("torch", "matplotlib", "numpy", "scipy") if m in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
