"""Every expansion estimator under every adaptation rule against dense matrices, in float64."""

from __future__ import annotations

import pytest
import torch
from dense_oracle import (
    backpropagated_rule,
    flat_loss,
    inner_loop,
    kronecker,
    subset_sum,
    support_gradients,
)
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.errors import ConfigError
from binomctl.settings import registry

B, ALPHA = 2, 0.1


class Net(nn.Module):
    """A convolution, batch norm and a head: parameters of one, two and four dimensions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, (2, 3))
        self.norm = nn.BatchNorm2d(2, track_running_stats=False)
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.conv(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(1)
    model = Net().double()
    x = torch.randn(2, B, 6, 1, 4, 4, dtype=torch.float64)
    y = torch.tensor([0, 1, 0, 1, 1, 0]).expand(B, -1)
    episodes = (x[0], y, x[1], y)
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    tasks = [
        (
            flat_loss(model, F.cross_entropy, x[0, b], y[b]),
            flat_loss(model, F.cross_entropy, x[1, b], y[b]),
        )
        for b in range(B)
    ]
    return model, episodes, theta, tasks


def dense(case, rule):
    """(m, m -> M dense) of a rule, built without it; m away from where it starts."""
    model, _, theta, _ = case
    d = len(theta)
    torch.manual_seed(7)
    if rule == "gd":
        return torch.zeros(0, dtype=torch.float64), lambda m: torch.eye(d, dtype=torch.float64)
    if rule == "anil":
        head = torch.zeros(d, dtype=torch.float64)
        head[-6:] = 1  # head.weight [2, 2] and head.bias [2] come last
        return torch.zeros(0, dtype=torch.float64), lambda m: torch.diag(head)
    if rule == "meta-sgd":
        return 0.5 + torch.rand(d, dtype=torch.float64), torch.diag
    shapes = [p.shape for p in model.parameters()]
    start = registry.create("rule", rule, {}).initial(binomctl_layout(model)).double()
    m = start + 0.2 * torch.randn(len(start), dtype=torch.float64)
    return m, lambda m: kronecker(shapes, m)


def binomctl_layout(model):
    from binomctl.flat import Layout

    return Layout.of(model)


def ours(case, rule, m, estimator, K, **options):
    """Rows for theta [B, d] and for m [B, n]."""
    model, episodes, _, _ = case
    found = binomctl.meta_gradient(
        model,
        F.cross_entropy,
        episodes,
        estimator=estimator,
        rule=rule,
        rule_parameters=m if len(m) else None,
        K=K,
        alpha=ALPHA,
        per_task=True,
        **options,
    )
    theta = torch.cat([found[n].reshape(B, -1) for n, _ in model.named_parameters()], 1)
    return theta, found.get("rule.m", torch.zeros(B, 0, dtype=torch.float64))


def close(found, expected, tolerance=1e-10):
    expected = torch.stack(list(expected))
    scale = expected.norm().clamp_min(1e-300)
    assert (found - expected).norm() / scale <= tolerance


RULES = ["gd", "anil", "meta-sgd", "meta-curvature"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("K", range(1, 7))
def test_maml_equals_backpropagation_for_theta_and_for_m(case, rule, K):
    m, matrix = dense(case, rule)
    theta, m_gradient = ours(case, rule, m, "maml", K)
    exact = [backpropagated_rule(*task, case[2], m, matrix, K, ALPHA) for task in case[3]]
    close(theta, [t for t, _ in exact])
    if len(m):
        close(m_gradient, [g for _, g in exact])


def tails(hessians, g, L, C, alpha):
    """w_1 .. w_K: the order-L expansion of every tail product, 0 before the last C steps."""
    K = len(hessians)
    rows = []
    for k in range(K):
        if k < K - C:
            rows.append(torch.zeros_like(g))
        else:
            tail = hessians[k + 1 :]
            rows.append(subset_sum(tail, g, min(L, len(tail)), len(tail), alpha))
    return rows


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("K", range(1, 7))
def test_every_expansion_estimator_for_all_L_and_C(case, rule, K):
    m, matrix = dense(case, rule)
    M, theta = matrix(m), case[2]
    oracle = [inner_loop(*task, theta, K, ALPHA, M) for task in case[3]]
    us = [support_gradients(task[0], theta, K, ALPHA, M) for task in case[3]]
    learns = len(m) > 0
    dM = torch.autograd.functional.jacobian(matrix, m) if learns else None

    def expected_m(H, g, u, L, C, alpha):
        w = tails(H, g, L, C, alpha)
        return sum(-ALPHA * torch.einsum("ijn,j,i->n", dM, u[k], w[k]) for k in range(K))

    cases = [("fomaml", {}, 0, K, ALPHA)]
    for L in range(K + 1):
        cases.append(("trunc", {"L": L}, L, L, ALPHA))
        cases.append(("binom", {"L": L}, L, K, ALPHA))
        scaled = {"L": L, "alpha_scaling": "paper"}
        cases.append(("binom", scaled, L, K, L * ALPHA / K))
        cases += [("hybrid", {"L": L, "C": C}, L, C, ALPHA) for C in range(L, K + 1)]
        cases.append(("hybrid", {**scaled, "C": K}, L, K, L * ALPHA / K))
    for name, options, L, C, alpha in cases:
        found, found_m = ours(case, rule, m, name, K, **options)
        close(found, [subset_sum(H, g, L, C, alpha) for H, g in oracle])
        if learns:
            close(
                found_m,
                [expected_m(H, g, u, L, C, alpha) for (H, g), u in zip(oracle, us, strict=True)],
            )


def test_fixed_parameters_are_meta_learned_but_not_adapted(case):
    model, episodes, theta, tasks = case
    keep = torch.ones(len(theta), dtype=torch.float64)
    start = model.conv.weight.numel() + model.conv.bias.numel() + model.norm.weight.numel()
    keep[start : start + 2] = 0  # norm.bias
    M = torch.diag(keep)
    rule = registry.create("rule", "gd", {"fixed": ["norm.bias"]})
    found = binomctl.meta_gradient(
        model, F.cross_entropy, episodes, estimator="maml", rule=rule, K=3, alpha=ALPHA
    )
    exact = [
        backpropagated_rule(*t, theta, torch.zeros(0), lambda m: M, 3, ALPHA)[0] for t in tasks
    ]
    flat = torch.cat([found[n].reshape(-1) for n, _ in model.named_parameters()])
    close(flat[None], [torch.stack(exact).mean(0)])


def test_the_body_gets_mixed_second_derivatives_under_anil(case):
    theta, _ = ours(case, "anil", torch.zeros(0), "maml", 3)
    first, _ = ours(case, "anil", torch.zeros(0), "fomaml", 3)
    body = slice(0, -6)
    assert (theta[:, body] - first[:, body]).norm() > 1e-3 * first[:, body].norm()


@pytest.mark.parametrize("estimator", ["imaml", "neumann"])
@pytest.mark.parametrize("rule", ["anil", "meta-sgd", "meta-curvature"])
def test_implicit_estimators_refuse_other_rules_with_the_reason(case, estimator, rule):
    with pytest.raises(ConfigError, match="gradient of the proximal loss vanishes"):
        ours(case, rule, torch.zeros(0), estimator, 2)


@pytest.mark.parametrize("rule", ["anil", "meta-sgd", "meta-curvature"])
def test_reptile_refuses_rules_under_which_something_would_never_be_trained(case, rule):
    with pytest.raises(ConfigError, match="would never be trained"):
        ours(case, rule, torch.zeros(0), "reptile", 2)


def test_a_pattern_that_matches_nothing_is_refused(case):
    rule = registry.create("rule", "gd", {"fixed": ["nrom.*"]})
    with pytest.raises(ConfigError, match=r"'nrom\.\*' matches no parameter"):
        binomctl.meta_gradient(case[0], F.cross_entropy, case[1], rule=rule)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"C": 1}, "C = 1 is less than L = 2"), ({"C": 6}, "C = 6 is greater than K = 5")],
)
def test_hybrid_refuses_C_outside_its_range(case, options, word):
    with pytest.raises(ConfigError, match=word):
        ours(case, "gd", torch.zeros(0), "hybrid", 5, L=2, **options)
