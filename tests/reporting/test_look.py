"""An estimator looks the same in every picture, and unlike the others for every pair of eyes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from binomctl.reporting.look import COLOURS, LINES, look, looks, series, shade
from binomctl.settings import registry

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
EYES = {
    "usual": np.eye(3),
    "no red receptor": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                                 [-0.003882, -0.048116, 1.051998]]),
    "no green receptor": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                                   [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                   [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
APART = 20.0  # in CIELAB; 2.3 is a just noticeable difference of neighbouring patches
MAIN = ["maml", "fomaml", "trunc", "binom", "reptile", "imaml", "hybrid", "head"]


def lab(colour: str, eye: np.ndarray) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(eye @ linear, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: str, other: str) -> float:
    """The distance for the eyes that see the least of it."""
    return min(float(np.linalg.norm(lab(one, eye) - lab(other, eye))) for eye in EYES.values())


def test_the_measure_of_distance_sees_what_is_known():
    assert apart("#000000", "#FFFFFF") > 99
    assert apart("#c0392b", "#2e8b57") < APART  # a red and a green that are one brown
    usual = np.linalg.norm(lab("#c0392b", EYES["usual"]) - lab("#2e8b57", EYES["usual"]))
    assert usual > 80


def test_all_colours_are_apart_and_seen_on_white():
    for one, other in itertools.combinations(COLOURS, 2):
        assert apart(one, other) >= APART, (one, other)
    for colour in COLOURS:
        assert apart(colour, "#FFFFFF") > 2 * APART - 5, colour


def test_installed_estimators_are_told_apart():
    """Where this fails for a new estimator, another seed is to be searched for, in look.py."""
    names = registry.names("estimator")
    assert set(MAIN) <= set(names)
    for one, other in itertools.combinations(names, 2):
        a, b = look(one), look(other)
        assert a["marker"] != b["marker"] or apart(a["color"], b["color"]) >= APART, (one, other)
    for one, other in itertools.combinations(MAIN, 2):
        assert apart(look(one)["color"], look(other)["color"]) >= APART, (one, other)


def test_a_look_is_the_same_in_another_process_and_in_other_company():
    code = "from binomctl.reporting.look import look; print(look('mine'), look('binom'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONHASHSEED": "7"})  # fmt: skip
    assert done.stdout.strip() == f"{look('mine')} {look('binom')}"
    alone = looks([("binom", "binom")])[0]
    assert looks([("trunc", "trunc"), ("imaml", "imaml"), ("binom", "binom")])[2] == alone


def test_variants_share_colour_and_marker_and_differ_in_line_and_face():
    labels = ["imaml lam=50", "imaml", "imaml lam=2", "imaml lam=50"]
    first, plain, other, again = looks([("imaml", label) for label in labels])
    assert plain == look("imaml")
    assert first == again
    for a, b in itertools.combinations([first, plain, other], 2):
        assert (a["color"], a["marker"]) == (b["color"], b["marker"])
        assert a["linestyle"] != b["linestyle"]
        assert a["fillstyle"] != b["fillstyle"]
    assert look("imaml", len(LINES)) == look("imaml")


def test_orders_are_darker_the_higher():
    light = [lab(shade("#0072B2", L, [0, 1, 2, 3]), EYES["usual"])[0] for L in range(4)]
    assert light == sorted(light, reverse=True)
    assert shade("#0072B2", 3, [0, 1, 2, 3]) == shade("#0072B2", 5, [5]) == "#0072B2"
    assert light[0] < 80  # still seen on white


@pytest.mark.parametrize("n", [9, 72])
def test_series_that_are_no_estimators_do_not_repeat(n):
    seen = {(series(i)["color"], series(i)["marker"]) for i in range(n)}
    assert len(seen) == n
