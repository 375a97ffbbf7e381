"""Rules that see the step, rules that make phi^0, estimators with a state: what a plugin may be,
against backpropagation in float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from dense_oracle import flat_loss
from smoothed import Smoothed
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.adapt import adapt_and_validate, estimate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError
from binomctl.expansion import binomial_adjoints
from binomctl.flat import Layout, initial_parameters
from binomctl.settings import registry

B, ALPHA = 2, 0.1
D = torch.float64


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x, y = torch.randn(2, B, 5, 2, dtype=D), torch.randn(2, B, 5, 2, dtype=D)
    return model, (x[0], y[0], x[1], y[1])


@dataclass(frozen=True)
class Alfa:
    """A rate and a decay made of the layer means of gradient and weights, smoothly."""

    plain: bool = False

    def initial(self, layout):
        return torch.linspace(0.1, 0.4, 4)

    def direction(self, k, m, phi, gamma, layout):
        parts = []
        named = zip(layout.unflatten(phi).values(), layout.unflatten(gamma).values(), strict=True)
        for p, g in named:
            rate = torch.sigmoid(m[0] * g.mean() + m[1] * p.mean() + 0.1 * k)
            decay = m[2] + m[3] * torch.tanh(g.mean())
            parts.append((rate * g + decay * p).flatten())
        return torch.cat(parts)


@dataclass(frozen=True)
class Warm:
    """phi^0 is theta moved by what the support set says, and by the rule's own parameters."""

    plain: bool = False

    def initial(self, layout):
        return torch.tensor([0.3, -0.2])

    def direction(self, k, m, phi, gamma, layout):
        return gamma * (1 + 0.1 * m[1])

    def start(self, m, theta, x, y, layout, network):
        return theta * (1 + m[0] * y.mean()) + 0.1 * torch.sin(theta * x.mean())


@dataclass(frozen=True)
class Linear:
    """Without `apply` a rule is nothing."""

    plain: bool = False

    def initial(self, layout):
        return torch.empty(0)


def exact(case, rule, m, K, momentum):
    """Backpropagation through start, directions and a velocity: [B, d], [B, n]."""
    model, (xs, ys, xq, yq) = case
    layout, rows = Layout.of(model), []
    for b in range(B):
        theta = initial_parameters(model).requires_grad_()
        m_b = m.clone().requires_grad_()
        trn, val = (flat_loss(model, F.mse_loss, *p) for p in ((xs[b], ys[b]), (xq[b], yq[b])))
        starts = hasattr(rule, "start")
        phi = rule.start(m_b, theta, xs[b], ys[b], layout, None) if starts else theta
        v = torch.zeros_like(theta)
        for k in range(K):
            (gamma,) = torch.autograd.grad(trn(phi), phi, create_graph=True)
            v = momentum * v + rule.direction(k, m_b, phi, gamma, layout)
            phi = phi - ALPHA * v
        rows.append(torch.autograd.grad(val(phi), (theta, m_b)))
    return [torch.stack(part) for part in zip(*rows, strict=True)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rule", [Alfa(), Warm(), registry.create("rule", "rates", {"steps": 3})])
def test_rules_of_any_kind_are_differentiated_with_their_own_parameters(case, rule, momentum):
    model, episodes = case
    layout, K = Layout.of(model), 4
    m = rule.initial(layout).double()
    m = m + 0.1 * torch.randn(len(m), dtype=D, generator=torch.Generator().manual_seed(1))
    found = binomctl.meta_gradient(
        model, F.mse_loss, episodes, estimator="maml", K=K, alpha=ALPHA, rule=rule,
        rule_parameters=m, per_task=True, optimizer_options={"momentum": momentum},
    )  # fmt: skip
    theta, m_rows = exact(case, rule, m, K, momentum)
    flat = torch.cat([found[n].reshape(B, -1) for n, _ in model.named_parameters()], 1)
    torch.testing.assert_close(flat, theta, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found["rule.m"], m_rows, rtol=1e-9, atol=1e-11)


def test_a_rule_without_a_direction_is_refused_in_words(case):
    with pytest.raises(ConfigError, match=r"neither .* nor"):
        binomctl.meta_gradient(case[0], F.mse_loss, case[1], rule=Linear())


def test_rates_are_learned_in_training_and_serve_more_steps_at_test():
    from binomctl.problem.build import build_problem
    from binomctl.settings.layers import load_config
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    config, _ = load_config(
        overrides={"dataset.name": "sinusoid", "rule.name": "rates", "estimator.name": "binom",
                   "training.steps": 2, "adaptation.optimizer": "adam", "adaptation.K": 3},
        assignments=["rule.steps=3"],
    )  # fmt: skip
    problem = build_problem(config)
    state = MetaState(problem)
    before = state.m.detach().clone()
    list(meta_train(problem, state))
    assert (state.m.detach() != before).any()


def test_an_estimator_s_state_goes_from_call_to_call(case):
    model, episodes = case
    how = {"K": 2, "alpha": ALPHA}
    plain = binomctl.meta_gradient(model, F.mse_loss, episodes, estimator="maml", **how)
    smoothed = binomctl.MetaGradient(model, F.mse_loss, estimator=Smoothed(), **how)
    one, two = smoothed(episodes), smoothed(episodes)
    for name, g in plain.items():
        torch.testing.assert_close(one[name], 0.5 * g)
        torch.testing.assert_close(two[name], 0.75 * g)
    assert int(smoothed.state["calls"]) == 2


def test_order_zero_passes_by_the_hessians_and_not_by_the_optimiser(case):
    """First order under momentum: with every H_k zero a velocity still carries g on."""
    model, (xs, ys, xq, yq) = case
    engine = AutogradEngine(model, F.mse_loss)
    rule, update = registry.create("rule", "gd", {}), registry.create("update", "sgd", {})
    assert update.plain
    heavy = registry.create_update("sgd", {"momentum": 0.9})
    how = Adaptation(3, ALPHA, rule, torch.empty(0), engine.layout, update=heavy)
    batch = EpisodeBatch(xs, ys, xq, yq)
    estimator = registry.create("estimator", "fomaml", {})
    adapted, _, _ = adapt_and_validate(
        engine, initial_parameters(model), batch, how, estimator.steps(3)
    )
    d = engine.layout.d
    assert torch.equal(estimate(estimator, adapted).theta, adapted.g[:, :d])  # phi passes as it is
    w = binomial_adjoints(adapted, estimator.expansion(3, 1.0))
    torch.testing.assert_close(w[:, 2, d:], -ALPHA * 0.9 * adapted.g[:, :d])
