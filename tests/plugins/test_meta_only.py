"""Estimators for what no inner step moves: against their own objectives and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.func import functional_call
from torch.nn import functional as F
from written_methods import (
    ALPHA,
    B,
    D,
    HeadFirst,
    K,
    Uncertain,
    data,
    join,
    model_of,
    ours,
    parts_of,
    where,
)

import binomctl
from binomctl.errors import ConfigError
from binomctl.settings import registry


def path_of(model, theta, task, moved):
    """phi^0 .. phi^K of gradient descent on some parameters, as constants."""
    x, y, phi, out = task[0], task[1], theta.detach(), [theta.detach()]
    for _ in range(K):
        at = phi.clone().requires_grad_()
        loss = F.cross_entropy(functional_call(model, parts_of(model, at), (x,)), y)
        phi = (at - ALPHA * moved * torch.autograd.grad(loss, at)[0]).detach()
        out.append(phi)
    return out


def losses_of(model, task):
    return [lambda phi, x=x, y=y: F.cross_entropy(
        functional_call(model, parts_of(model, phi), (x,)), y)
        for x, y in (task[:2], task[2:])]  # fmt: skip


@pytest.mark.parametrize("engine", ["auto", "autograd"])
@pytest.mark.parametrize("lookahead", [True, False])
def test_warp_layers_learn_from_every_step_alone(engine, lookahead):
    model, episodes = model_of(HeadFirst), data()
    moved, c = where(model, lambda n: not n.startswith("body.")), [0.0, 0.1, 0.2, 0.3, 0.4]
    gd = registry.create("rule", "gd", {"fixed": ("body.*",)})
    found, _ = ours(model, gd, torch.zeros(0), episodes, "warpgrad", weights=c, engine=engine,
                    lookahead=lookahead)  # fmt: skip
    theta = join(model, dict(model.named_parameters())).detach()
    for b, task in enumerate(zip(*episodes, strict=True)):
        trn, val = losses_of(model, task)
        path = path_of(model, theta, task, moved)

        def objective(warp, trn=trn, val=val, path=path):
            total = 0
            for k in range(K):
                at = torch.where(moved.bool(), path[k], warp)
                (gamma,) = torch.autograd.grad(trn(at), at, create_graph=True)
                gamma = gamma if lookahead else gamma.detach()
                total = total + c[k + 1] * val(at - ALPHA * moved * gamma)
            return total

        warp = theta.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(objective(warp), warp)
        first = c[K] * jacobian(val, path[K])
        wanted = torch.where(moved.bool(), first, wanted)
        assert float((found[b] - wanted).norm() / wanted.norm()) < 1e-10


class Ridge(nn.Module):
    """A quadratic inner problem: its minimum is known in closed form."""

    def __init__(self):
        super().__init__()
        self.features = nn.Linear(5, 3, bias=False)
        self.weights = nn.Parameter(torch.zeros(3, 1))

    def forward(self, x):
        return self.features(x) @ self.weights


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_implicit_gradients_are_those_of_the_minimum_itself(solver):
    torch.manual_seed(0)
    model = Ridge().to(D)
    x, y = torch.randn(2, 1, 20, 5, dtype=D), torch.randn(2, 1, 20, 1, dtype=D)
    steps, L = (4000, 3) if solver == "cg" else (4000, 4000)

    def mse(a, b):
        return 0.5 * (a - b).square().mean()

    found = binomctl.meta_gradient(
        model, mse, (x[0], y[0], x[1], y[1]), estimator="implicit", solver=solver, L=L, K=steps,
        alpha=0.5, rule=registry.create("rule", "gd", {"fixed": ("features.*",)}),
    )  # fmt: skip
    W = model.features.weight.detach().requires_grad_()
    f, h = x[0, 0] @ W.T, x[1, 0] @ W.T
    minimum = torch.linalg.solve(f.T @ f, f.T @ y[0, 0])
    (wanted,) = torch.autograd.grad(mse(h @ minimum, y[1, 0]), W)
    assert torch.allclose(found["features.weight"], wanted, rtol=1e-6, atol=1e-9)
    assert not found["weights"].any()
    with pytest.raises(ConfigError, match="adapts every parameter"):
        binomctl.meta_gradient(model, mse, (x[0], y[0], x[1], y[1]), estimator="implicit", K=2)


@pytest.mark.long
def test_implicit_gradients_of_a_rule_with_a_term_of_its_own_are_the_path_s_at_its_end():
    model, episodes = model_of(Uncertain), data()
    model.activation = torch.tanh  # a minimum at a kink of ReLU has no Hessian
    rule = registry.create("rule", "ibaml", {"kl": 0.5})

    def prior_s(estimator, **options):
        found = binomctl.meta_gradient(
            model, F.cross_entropy, episodes, estimator=estimator, rule=rule, K=400, alpha=0.1,
            tasks=range(B), allow_unused=True, **options,
        )  # fmt: skip
        return torch.cat([v.flatten() for n, v in found.items() if n.startswith("outer_")])

    exact, implicit = prior_s("maml"), prior_s("implicit", L=100)
    assert exact.norm() > 0
    assert (implicit - exact).norm() / exact.norm() < 1e-6
