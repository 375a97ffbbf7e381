"""The layer algebra where products come one at a time, and where parameters are frozen."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import binomctl

K, ALPHA, B = 5, 0.1, 4


def episodes(*shape, classes=3):
    torch.manual_seed(1)
    x = torch.randn(2, B, *shape, dtype=torch.float64)
    y = torch.randint(0, classes, (2, B, shape[0]))
    return x[0], y[0], x[1], y[1]


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


@pytest.mark.parametrize(
    ("estimator", "options"),
    [("deflated", {"L": 3}), ("deflated", {"L": 2, "segments": 2}), ("deflated", {"L": 1, "r": 3}),
     ("calibrated", {"r": 1, "L": 2}), ("krylov", {"segments": 3}), ("head", {"m": 2, "L": 2})],
    ids=str,
)  # fmt: skip
def test_levels_after_single_products_are_those_of_rows(estimator, options):
    """A direction's tangents that a single product left behind are no part of a level's points."""
    found = [
        binomctl.meta_gradient(
            perceptron(), F.cross_entropy, episodes(5, 6), estimator=estimator, K=K, alpha=ALPHA,
            engine="analytic", order=order, **options,
        )
        for order in ("columns", "rows")
    ]  # fmt: skip
    for name, columns in found[0].items():
        torch.testing.assert_close(columns, found[1][name], rtol=1e-9, atol=1e-12)


def unrolled(net, sets):
    """Backpropagation through the inner loop, of the parameters that want gradients alone."""
    named = {n: p.detach() for n, p in net.named_parameters()}
    learned = [n for n, p in net.named_parameters() if p.requires_grad]
    total = [torch.zeros_like(named[n]) for n in learned]
    for x_trn, y_trn, x_val, y_val in zip(*sets, strict=True):
        theta = {n: named[n].clone().requires_grad_() for n in learned}
        phi = dict(theta)
        for _ in range(3):
            loss = F.cross_entropy(functional_call(net, {**named, **phi}, (x_trn,)), y_trn)
            steps = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
            phi = {n: p - ALPHA * g for (n, p), g in zip(phi.items(), steps, strict=True)}
        loss = F.cross_entropy(functional_call(net, {**named, **phi}, (x_val,)), y_val)
        found = torch.autograd.grad(loss, list(theta.values()))
        total = [t + g / B for t, g in zip(total, found, strict=True)]
    return dict(zip(learned, total, strict=True))


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 36, 3),
    ).double()  # fmt: skip


@pytest.mark.parametrize("order", ["columns", "rows"])
@pytest.mark.parametrize(
    ("make", "shape", "frozen"),
    [(perceptron, (5, 6), "0.weight"), (perceptron, (5, 6), "2.weight"),
     (perceptron, (5, 6), "0.bias"), (convolutions, (5, 1, 6, 6), "0.weight"),
     (convolutions, (5, 1, 6, 6), "2.weight"), (convolutions, (5, 1, 6, 6), "2.bias")],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_a_frozen_weight_beside_a_bias_that_learns(make, shape, frozen, order):
    net, sets = make(), episodes(*shape)
    net.get_parameter(frozen).requires_grad_(False)
    right = unrolled(net, sets)
    found = binomctl.meta_gradient(
        net, F.cross_entropy, sets, estimator="maml", K=3, alpha=ALPHA, engine="analytic",
        order=order,
    )  # fmt: skip
    assert set(found) == set(right)
    for name, gradient in right.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
