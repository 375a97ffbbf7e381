"""The search for violating Hessians: its gradient, and what it has always found."""

from __future__ import annotations

import numpy as np
import pytest

from binomctl.theory.bounds import METHODS, Setting, curves
from binomctl.theory.certify import _error, _gradient, certify

# As found with derivatives written by hand, before torch took them.
FOUND = {
    ("3.6", "fomaml", 0): 3.0,
    ("3.6", "truncmaml", 0): 3.0,
    ("3.6", "truncmaml", 1): 2.0,
    ("3.6", "binommaml", 0): 3.0,
    ("3.6", "binommaml", 1): 1.0,
    ("3.8", "fomaml", 0): 1.1547005383792521,
    ("3.8", "truncmaml", 0): 1.1547005383792521,
    ("3.8", "truncmaml", 1): 1.0,
    ("3.8", "binommaml", 0): 1.1547005383792521,
    ("3.8", "binommaml", 1): 1.0,
    ("3.10", "fomaml", 0): 1.3483997249264854,
    ("3.10", "truncmaml", 1): 0.9,
    ("3.10", "binommaml", 1): 1.0,
}


def test_the_factors_are_those_that_were_found_before():
    setting = Setting(2, 1.0, 1.0, 0.1, 1)
    found = {(f.theorem, f.method, f.L): f.factor for f in certify(setting, curves(setting))}
    assert found == pytest.approx(FOUND, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("L", range(4))
def test_the_gradient_is_the_spectral_norm_s(method, L):
    """Central differences along symmetric directions."""
    random = np.random.default_rng(L)
    H, V = random.standard_normal((2, 6, 4, 3, 3))
    H, V = H + np.swapaxes(H, -1, -2), V + np.swapaxes(V, -1, -2)

    def norm(t):
        return np.linalg.norm(_error(method, L, 0.2, H + t * V), 2, axis=(-2, -1))

    slope = (norm(1e-6) - norm(-1e-6)) / 2e-6
    gradient = _gradient(method, L, 0.2, H)
    np.testing.assert_allclose((gradient * V).sum((-3, -2, -1)), slope, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(gradient, np.swapaxes(gradient, -1, -2))
