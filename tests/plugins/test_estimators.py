"""Every expansion estimator against the dense oracle, float64, every K and L, every schedule."""

from __future__ import annotations

import pytest
import torch
from dense_oracle import backpropagated, flat_loss, inner_loop, product, subset_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError
from binomctl.flat import initial_parameters
from binomctl.models.conv4 import Conv4
from binomctl.settings import registry

B = 2


def problem(kind):
    """A tiny model and B tasks in float64: (model, loss, batch, alpha)."""
    torch.manual_seed(3)
    if kind == "mlp":
        model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        x = torch.randn(2, B, 5, 2, dtype=torch.float64)
        y = torch.randn(2, B, 5, 1, dtype=torch.float64)
        return model, F.mse_loss, EpisodeBatch(x[0], y[0], x[1], y[1]), 0.2
    model = Conv4(filters=2).build((1, 16, 16), 3).double()
    x = torch.randn(2, B, 6, 1, 16, 16, dtype=torch.float64)
    y = torch.arange(3).repeat(2).expand(B, -1)
    return model, F.cross_entropy, EpisodeBatch(x[0], y, x[1], y), 0.05


@pytest.fixture(scope="module", params=["mlp", "conv4"])
def case(request):
    """The problem with the oracle's Hessians for K = 6; shorter loops need their own g only."""
    model, loss, batch, alpha = problem(request.param)
    theta = initial_parameters(model)
    tasks = [
        (
            flat_loss(model, loss, batch.x_trn[b], batch.y_trn[b]),
            flat_loss(model, loss, batch.x_val[b], batch.y_val[b]),
        )
        for b in range(B)
    ]
    longest = [inner_loop(trn, val, theta, 6, alpha)[0] for trn, val in tasks]

    def oracle(K):
        out = []
        for (trn, val), hessians in zip(tasks, longest, strict=True):
            phi = theta
            for _ in range(K):
                phi = phi - alpha * torch.autograd.functional.jacobian(trn, phi)
            out.append((hessians[:K], torch.autograd.functional.jacobian(val, phi)))
        return out

    return model, loss, batch, alpha, theta, tasks, oracle


def estimate(case, name, K, options=None, **engine_options):
    model, loss, batch, alpha, theta, _, _ = case
    estimator = registry.create("estimator", name, options or {})
    engine = AutogradEngine(model, loss, **engine_options)
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, alpha, rule, rule.initial(engine.layout), engine.layout)
    adapted, _, _ = adapt_and_validate(engine, theta, batch, how, estimator.steps(K))
    return estimator.meta_gradient(adapted)


def close(found, expected, tolerance=1e-10):
    expected = torch.stack(list(expected))
    error = (found - expected).norm() / expected.norm()
    assert error <= tolerance, f"relative error {error:.2e}"


@pytest.mark.parametrize("K", range(1, 7))
def test_every_estimator_equals_the_dense_oracle(case, K):
    alpha, oracle = case[3], case[6](K)
    close(estimate(case, "maml", K), (product(H, g, K, alpha) for H, g in oracle))
    close(estimate(case, "fomaml", K), (g for _, g in oracle))
    for L in range(K + 1):
        trunc = estimate(case, "trunc", K, {"L": L})
        close(trunc, (product(H, g, L, alpha) for H, g in oracle))
        binom = estimate(case, "binom", K, {"L": L})
        close(binom, (subset_sum(H, g, L, K, alpha) for H, g in oracle))
        scaled = estimate(case, "binom", K, {"L": L, "alpha_scaling": "paper"})
        close(scaled, (subset_sum(H, g, L, K, L * alpha / K) for H, g in oracle))


@pytest.mark.parametrize(
    "engine_options",
    [
        {"memory": "recompute"},
        {"order": "columns"},
        {"order": "columns", "memory": "recompute", "batching": "loop"},
        {"order": "columns", "memory": "recompute", "batching": "vmap"},
        {"batching": "loop", "threads": 1},
        {"batching": "loop", "threads": 2},
        {"batching": "vmap"},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_every_schedule_gives_the_oracle_s_numbers(case, engine_options):
    K, alpha, oracle = 4, case[3], case[6](4)
    for L in range(K + 1):
        found = estimate(case, "binom", K, {"L": L}, **engine_options)
        close(found, (subset_sum(H, g, L, K, alpha) for H, g in oracle))


@pytest.mark.parametrize("K", [1, 3, 6])
def test_maml_equals_backpropagation_through_the_inner_loop(case, K):
    _, _, _, alpha, theta, tasks, _ = case
    exact = (backpropagated(trn, val, theta, K, alpha) for trn, val in tasks)
    close(estimate(case, "maml", K), exact)


@pytest.mark.parametrize("name", ["binom", "trunc"])
def test_the_ends_of_the_expansion_are_fomaml_and_maml(case, name):
    close(estimate(case, name, 5, {"L": 0}), estimate(case, "fomaml", 5), 1e-15)
    close(estimate(case, name, 5, {"L": 5}), estimate(case, "maml", 5), 1e-15)


def test_an_order_below_the_last_is_not_exact(case):
    exact = estimate(case, "maml", 5)
    for name in ("binom", "trunc"):
        assert (estimate(case, name, 5, {"L": 2}) - exact).norm() / exact.norm() > 1e-5


@given(L=st.integers(-3, 9), K=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_orders_outside_the_range_are_refused(L, K):
    for name in ("binom", "trunc"):
        if 0 <= L <= K:
            steps = registry.create("estimator", name, {"L": L}).steps(K)
            assert set(steps) <= set(range(K))
        else:
            with pytest.raises(ConfigError):
                registry.create("estimator", name, {"L": L}).steps(K)
