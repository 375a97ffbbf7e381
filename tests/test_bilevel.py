"""Hypergradients of bilevel problems against backpropagation through the whole inner loop."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import binomctl
from binomctl.errors import ConfigError

D = torch.float64
K, N = 4, 12


@pytest.fixture(scope="module")
def problem():
    """A weight per training example, a decay per parameter, and a lam of the outer loss's own."""
    torch.manual_seed(1)
    x, y = torch.randn(N, 3, dtype=D), torch.randn(N, 2, dtype=D)
    xo, yo = torch.randn(8, 3, dtype=D), torch.randn(8, 2, dtype=D)
    phi = {"W": 0.5 * torch.randn(3, 2, dtype=D), "b": torch.randn(2, dtype=D)}
    lam = {
        "weight": torch.randn(N, dtype=D),
        "decay": torch.rand(3, 2, dtype=D),
        "scale": torch.tensor(1.3, dtype=D),
    }

    def inner(phi, lam, rows):
        out = torch.tanh(x[rows] @ phi["W"]) + phi["b"]
        per = (out - y[rows]).square().mean(1)
        return (lam["weight"][rows].sigmoid() * per).mean() + (lam["decay"] * phi["W"] ** 2).sum()

    def outer(phi, lam, batch):
        xo, yo = batch
        return lam["scale"] * F.mse_loss(torch.tanh(xo @ phi["W"]) + phi["b"], yo)

    generator = torch.Generator().manual_seed(2)
    batches = [torch.randperm(N, generator=generator)[:5] for _ in range(K)]
    return inner, outer, lam, phi, (batches, (xo, yo))


def unrolled(problem, step, S, reach=K, weights=None):
    """d sum c_k l_out / d lam; before the last `reach` steps the gradient is cut, and of these none
    is cut where reach = K."""
    inner, outer, lam, phi, (batches, last) = problem
    lam = {n: t.clone().requires_grad_() for n, t in lam.items()}
    s = [{n: t.clone().requires_grad_() for n, t in phi.items()}]
    s += [{n: torch.zeros_like(t) for n, t in phi.items()} for _ in range(S)]
    c = weights or [0.0] * K + [1.0]
    total = c[0] * outer(s[0], lam, last)
    for k in range(K):
        if k == K - reach and k:
            s = [{n: t.detach().requires_grad_() for n, t in part.items()} for part in s]
        seen = lam if k >= K - reach else {n: t.detach() for n, t in lam.items()}
        g = torch.autograd.grad(
            inner(s[0], seen, batches[k]), list(s[0].values()), create_graph=True
        )
        new = [step(k, [part[n] for part in s], u) for n, u in zip(s[0], g, strict=True)]
        s = [dict(zip(phi, column, strict=True)) for column in zip(*new, strict=True)]
        total = total + c[k + 1] * outer(s[0], lam, last)
    return dict(zip(lam, torch.autograd.grad(total, list(lam.values())), strict=True))


def plain(k, s, u):
    return [s[0] - 0.2 * u]


def momentum(k, s, u):
    v = 0.9 * s[1] + u
    return [s[0] - 0.2 * v, v]


def close(found, wanted):
    for name, g in wanted.items():
        torch.testing.assert_close(found[name], g, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("weights", [None, [0.1, 0.2, 0.0, 0.3, 0.4]])
@pytest.mark.parametrize(
    ("step", "S", "options"),
    [(plain, 0, {}), (momentum, 1, {"optimizer_options": {"momentum": 0.9}})],
)
def test_exact_is_backpropagation(problem, order, memory, weights, step, S, options):
    for estimator in ({"estimator": "maml"}, {"estimator": "binom", "L": K}):
        found = binomctl.hypergradient(
            *problem, alpha=0.2, order=order, memory=memory, weights=weights, **estimator, **options
        )
        close(found, unrolled(problem, step, S, weights=weights))


@pytest.mark.parametrize("L", [1, 2, 3])
def test_truncation_is_truncated_backpropagation(problem, L):
    found = binomctl.hypergradient(*problem, alpha=0.2, estimator="trunc", L=L)
    close(found, unrolled(problem, plain, 0, reach=L))


def test_first_order_keeps_the_mixed_derivatives(problem):
    """All Hessians dropped: every step hands g on, and lam is reached through every gradient."""
    inner, outer, lam, phi, (batches, last) = problem
    result = binomctl.hypergradient(*problem, alpha=0.2, estimator="fomaml", with_loss=True)
    outer_lam = {n: t.clone().requires_grad_() for n, t in lam.items()}
    end = {n: t.clone().requires_grad_() for n, t in result.phi.items()}
    value = outer(end, outer_lam, last)
    torch.testing.assert_close(result.loss, value.detach())
    g = torch.autograd.grad(value, list(end.values()), retain_graph=True)
    total = value
    path = {n: t.clone() for n, t in phi.items()}
    for k in range(K):
        path = {n: t.detach().requires_grad_() for n, t in path.items()}
        gamma = torch.autograd.grad(
            inner(path, outer_lam, batches[k]), list(path.values()), create_graph=True
        )
        total = total - 0.2 * sum((a * b).sum() for a, b in zip(gamma, g, strict=True))
        path = {n: t - 0.2 * u for (n, t), u in zip(path.items(), gamma, strict=True)}
    wanted = torch.autograd.grad(total, list(outer_lam.values()))
    close(result.gradients, dict(zip(lam, wanted, strict=True)))


def test_a_rule_s_own_parameters_are_outer_variables_too(problem):
    m = torch.linspace(0.5, 1.5, 8, dtype=D)
    found = binomctl.hypergradient(*problem, alpha=0.2, rule="meta-sgd", rule_parameters=m)
    h = 1e-6
    for i in (0, 5, 7):
        up, down = m.clone(), m.clone()
        up[i] += h
        down[i] -= h
        values = [
            binomctl.hypergradient(
                *problem, alpha=0.2, rule="meta-sgd", rule_parameters=shifted, with_loss=True
            ).loss
            for shifted in (up, down)
        ]
        difference = (values[0] - values[1]) / (2 * h)
        torch.testing.assert_close(found["rule.m"][i], difference, rtol=1e-5, atol=1e-8)


def test_nothing_of_the_caller_s_is_changed(problem):
    before = {n: t.clone() for part in problem[2:4] for n, t in part.items()}
    binomctl.hypergradient(*problem, alpha=0.2)
    for part in problem[2:4]:
        for name, t in part.items():
            assert torch.equal(t, before[name])
            assert not t.requires_grad
            assert t.grad is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lam": {"none": torch.ones(2)}}, r"no loss depends on the outer variable\(s\) none"),
        ({"phi": {"idle": torch.ones(2)}}, "does not depend on phi's idle"),
        ({"lam": {"count": torch.ones(2, dtype=torch.long)}}, "not a tensor of real numbers"),
        ({"phi": {"W": torch.full((3, 2), float("nan"), dtype=D)}}, r"phi\['W'\] is not finite"),
        ({"estimator": "imaml"}, "gives no adjoints"),
        ({"K": 3}, "4 inner batches for K = 3"),
        ({"estimator": "binom", "L": 9}, "L = 9 is greater than K = 4"),
        ({"alpha": 1e40}, "not finite"),
    ],
)
def test_what_does_not_fit_is_named(problem, change, said):
    inner, outer, lam, phi, batches = problem
    lam, phi = lam | change.pop("lam", {}), phi | change.pop("phi", {})
    with pytest.raises(Exception, match=said) as caught:
        binomctl.hypergradient(inner, outer, lam, phi, batches, **{"alpha": 0.2} | change)
    assert type(caught.value).__module__ == "binomctl.errors"


def test_unused_variables_get_zeros_where_asked(problem):
    inner, outer, lam, phi, batches = problem
    found = binomctl.hypergradient(
        inner, outer, lam | {"none": torch.ones(2)}, phi, batches, alpha=0.2, allow_unused=True
    )
    assert torch.equal(found["none"], torch.zeros(2))


def test_a_loss_that_is_no_scalar_is_named(problem):
    _, outer, lam, phi, batches = problem
    with pytest.raises(ConfigError, match=r"the inner loss returns \[3, 2\]"):
        binomctl.hypergradient(lambda p, la, b: p["W"], outer, lam, phi, batches)
