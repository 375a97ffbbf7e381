"""Weights of orders, chosen and drawn ways, and estimates of what was neglected."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dense_factors import D, K, ours, trajectory

from binomctl.expansion import error_estimate, until
from binomctl.expansion.deflation import deflated
from binomctl.settings import registry
from binomctl.theory.minimax import minimax_weights


@pytest.mark.parametrize("r", [0, 2])
def test_the_random_truncation_is_unbiased(case, r):
    """10,000 draws: the mean is exact within four standard errors, and the spread is the one that
    the probabilities say."""
    at, one = trajectory(case), registry.create("estimator", "unbiased", {"r": r, "survive": 0.4})
    levels = [one.levels(K, draw) for draw in range(10_000)]
    said = {}
    for draw, J in enumerate(levels):
        if J not in said:
            rows, state = one.advance(at, {"draws": torch.tensor(draw)})
            said[J] = rows
            assert int(state["draws"]) == draw + 1
    counts = np.bincount(levels, minlength=K + 1)
    chances = [0.4**j * (0.6 if j < K else 1) for j in range(K + 1)]
    assert set(said) == set(range(K + 1))
    exact = ours(case, "maml", {})
    mean = sum(chances[j] * said[j] for j in said)
    assert float((mean - exact).norm() / exact.norm()) < 1e-12  # its expectation, exactly
    drawn = sum(int(counts[j]) * said[j] for j in said) / len(levels)
    spread = sum(chances[j] * (said[j] - exact) ** 2 for j in said).sum().sqrt()
    assert float((drawn - exact).norm()) < 4 * float(spread) / math.sqrt(len(levels))
    by_task = sum(chances[j] * (said[j] - exact).square().sum(1) for j in said).sqrt()
    told = one.diagnose(at, drawn)
    torch.testing.assert_close(told["spread"], by_task / exact.norm(dim=1))
    costs = r + np.array([sum(K - l + 1 for l in range(1, j + 1)) for j in range(K + 1)])
    assert float(told["products"][0]) == pytest.approx(float(np.dot(chances, costs)))


def test_the_defects_are_the_next_order_and_telescope(case):
    at = trajectory(case)
    for L in range(K):
        this, following = (ours(case, "binom", {"L": n}) for n in (L, L + 1))
        w = registry.create("estimator", "binom", {"L": L}).adjoints(at)
        wanted = (following - this).norm(dim=1) / this.norm(dim=1)
        torch.testing.assert_close(error_estimate(at, w), wanted, rtol=1e-9, atol=1e-14)
    exact = registry.create("estimator", "maml", {})
    assert float(error_estimate(at, exact.adjoints(at)).max()) < 1e-14


@pytest.mark.parametrize("velocity", [False, True])
def test_levels_until_a_tolerance(case, velocity):
    at = trajectory(case, velocity)
    for left, tolerance in ((at, 0.3), (deflated(at, 2), 0.02)):
        w, order, change = until(left, tolerance, K)
        assert 0 < order < K
        assert float(change.max()) <= tolerance
        changes = [until(left, 0.0, n)[2] for n in range(1, order)]
        assert all(float(c.max()) > tolerance for c in changes)
    alone = registry.create("estimator", "deflated", {"r": 2, "L": K, "tolerance": 0.02})
    assert torch.equal(alone.adjoints(at), w)


@pytest.mark.parametrize(
    ("steps", "L", "lo", "hi"),
    [(5, 2, 0.0, 1.0), (20, 3, -0.05, 0.4), (5, 4, -0.3, 1.8), (50, 1, 0.0, 0.01)],
)
def test_minimax_weights_alternate(steps, L, lo, hi):
    """Chebyshev's criterion: L + 2 extrema of alternating sign and one size."""
    c, worst = minimax_weights(steps, L, lo, hi)
    x = np.linspace(lo, hi, 20_001)
    error = (1 - x) ** steps - sum(
        float(c[j]) * math.comb(steps, j) * (-x) ** j for j in range(L + 1)
    )
    assert np.abs(error).max() == pytest.approx(worst, rel=2e-3)
    signs = np.sign(error[np.abs(error) > 0.98 * worst])
    assert (np.diff(signs) != 0).sum() >= L + 1
    taylor = (1 - x) ** steps - sum(math.comb(steps, j) * (-x) ** j for j in range(L + 1))
    assert worst < np.abs(taylor).max()


def test_weights_are_kept_from_fit_to_fit(case):
    at = trajectory(case)
    one = registry.create("estimator", "calibrated", {"L": 2, "every": 3})
    state = one.init_state(at.trajectory.adaptation.layout)
    weights = []
    for _ in range(4):
        _, state = one.advance(at, state)
        weights.append(state["weights"])
    assert all(torch.equal(w, weights[0]) for w in weights)
    assert not torch.equal(weights[0], torch.ones(1, 3, dtype=D))
    assert int(state["calls"]) == 4
    per_layer = registry.create("estimator", "calibrated", {"L": 2, "groups": "layers"})
    _, state = per_layer.advance(at, per_layer.init_state(at.trajectory.adaptation.layout))
    assert state["weights"].shape == (4, 3)
    exact = ours(case, "maml", {})
    errors = [
        float((e.advance(at, e.init_state(at.trajectory.adaptation.layout))[0] - exact).norm())
        for e in (one, per_layer)
    ]
    assert errors[1] < errors[0] < float((ours(case, "binom", {"L": 2}) - exact).norm())


@pytest.mark.parametrize("velocity", [False, True])
def test_weights_on_top_of_a_low_rank(case, velocity):
    """Fitted on each task alone no error is above Taylor's in the same rest, nor is any tail's."""
    exact, at = ours(case, "maml", {}, velocity), trajectory(case, velocity)
    taylor = ours(case, "deflated", {"r": 2, "L": 1}, velocity)
    one = registry.create("estimator", "calibrated", {"r": 2, "L": 1, "ridge": 0.0})
    fitted = one.meta_gradient(at)[:, : exact.shape[1]]
    assert bool(((fitted - exact).norm(dim=1) < (taylor - exact).norm(dim=1)).all())
    torch.testing.assert_close(one.adjoints(at)[:, 0, : exact.shape[1]], fitted)


def test_auto_keeps_its_choice_and_tells_it(case, caplog):
    at = trajectory(case)
    one = registry.create("estimator", "auto", {"tolerance": 0.1, "every": 2})
    state = one.init_state(at.trajectory.adaptation.layout)
    with caplog.at_level("INFO", logger="binomctl.notes"):
        _, state = one.advance(at, state)
        estimate, after = one.advance(at, state)
    assert torch.equal(after["way"], state["way"])
    assert sum("auto:" in r.message for r in caplog.records) == 1
    exact = ours(case, "maml", {})
    errors = (estimate - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(errors.median()) <= 0.1


@pytest.mark.parametrize("products", range(K + 1))
def test_auto_is_never_worse_than_truncation_at_its_products(case, products):
    at, exact = trajectory(case), ours(case, "maml", {})
    one = registry.create("estimator", "auto", {"products": products})
    rows, state = one.advance(at, one.init_state(at.trajectory.adaptation.layout))
    torch.testing.assert_close(rows, exact)  # where it chooses it has the exact one
    way, _ = one.advance(at, state)
    error, cut = ((e - exact).norm(dim=1) / exact.norm(dim=1)
                  for e in (way, ours(case, "trunc", {"L": products})))  # fmt: skip
    assert float(error.median()) <= float(cut.median()) + 1e-12
