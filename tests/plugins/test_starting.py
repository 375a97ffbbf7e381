"""Tasks that start elsewhere than at theta, made with the network, against a dense oracle."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import binomctl
from binomctl.adapt import adapt_and_validate, estimate
from binomctl.analysis.errors import analyse
from binomctl.curvature.forward import PlainForward
from binomctl.curvature.network import Network
from binomctl.errors import ConfigError, DataError
from binomctl.problem.build import build_problem
from binomctl.problem.cases import Case
from binomctl.settings import registry
from binomctl.settings.measured import settings_of

D = torch.float64
B, K, ALPHA, WAYS = 3, 4, 0.1, 3


class Convolves(nn.Module):
    """A body that is a convolution with batch norm: the layer algebra knows it."""

    def __init__(self):
        super().__init__()
        norm = nn.BatchNorm2d(3, track_running_stats=False)
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(12, WAYS)

    def forward(self, x):
        return self.head(self.body(x))


class HeadFirst(nn.Module):
    """The head is registered first, and the body is checkpointed: no function transform."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, WAYS)
        self.body = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(checkpoint(self.features, x, use_reentrant=False))

    def features(self, x):
        return torch.tanh(self.body(x.flatten(1)))


MODELS = {"convolves": (Convolves, None), "head first": (HeadFirst, "head")}
RUNGS = [("convolves", "auto", "algebra"), ("convolves", "autograd", "loop"),
         ("head first", "auto", "algebra"), ("head first", "autograd", "alone")]  # fmt: skip


def case(name):
    torch.manual_seed(5)
    build, head = MODELS[name]
    x = torch.randn(2, B, 9, 1, 4, 4, dtype=D)
    y = torch.arange(WAYS).repeat(3).expand(B, -1)
    return build().to(D), registry.create("rule", "proto-maml", {"head": head}), (x[0], y, x[1], y)


def features(model, named, x):
    """What enters the head, written out for the two models."""
    if isinstance(model, Convolves):
        h = F.conv2d(x, named["body.0.weight"], named["body.0.bias"])
        mean, var = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), False, keepdim=True)
        scale, shift = (named[f"body.1.{n}"].view(1, -1, 1, 1) for n in ("weight", "bias"))
        return F.relu((h - mean) / torch.sqrt(var + 1e-5) * scale + shift).flatten(1)
    return torch.tanh(F.linear(x.flatten(1), named["body.weight"], named["body.bias"]))


def adjoint(model, episodes, L):
    """Order L of the expansion about phi^0 and its pull-back to theta, densely: [B, d]."""
    names, sizes = zip(*((n, p.numel()) for n, p in model.named_parameters()), strict=True)

    def named(flat):
        parts = zip(names, model.parameters(), flat.split(sizes), strict=True)
        return {n: v.view_as(p) for n, p, v in parts}

    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    rows = []
    for x_trn, y_trn, x_val, y_val in zip(*episodes, strict=True):

        def start(theta, x_trn=x_trn, y_trn=y_trn):
            parts = named(theta)
            f = features(model, parts, x_trn)
            means = torch.stack([f[y_trn == c].mean(0) for c in range(WAYS)])
            parts["head.weight"], parts["head.bias"] = 2 * means, -(means**2).sum(1)
            return torch.cat([parts[n].flatten() for n in names])

        def loss(phi, x=x_trn, y=y_trn):
            at = named(phi)  # written out: functional_call recomputes a checkpoint with theta
            return F.cross_entropy(
                F.linear(features(model, at, x), at["head.weight"], at["head.bias"]), y
            )

        phi, factors = start(theta), []
        for _ in range(K):
            factors.append(torch.autograd.functional.hessian(loss, phi) * -ALPHA)
            at = phi.detach().requires_grad_()
            phi = phi - ALPHA * torch.autograd.grad(loss(at), at)[0]
        at = phi.detach().requires_grad_()
        (g,) = torch.autograd.grad(loss(at, x_val, y_val), at)
        # S_L: all ordered products of at most L of the K factors.
        sums = [g] + [torch.zeros_like(g)] * L
        for factor in reversed(factors):
            sums = [sums[0], *(sums[j] + factor @ sums[j - 1] for j in range(1, L + 1))]
        jacobian = torch.autograd.functional.jacobian(start, theta)
        rows.append(sum(sums) @ jacobian)
    return torch.stack(rows)


@pytest.mark.parametrize(("name", "engine", "rung"), RUNGS)
@pytest.mark.parametrize(("estimator", "L"), [("maml", K), ("binom", 2), ("fomaml", 0)])
def test_the_head_starts_from_class_means_and_the_meta_gradient_passes_through_them(
    name, engine, rung, estimator, L
):
    model, rule, episodes = case(name)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    call = binomctl.MetaGradient(
        model, F.cross_entropy, estimator=estimator, K=K, alpha=ALPHA, rule=rule, per_task=True,
        allow_unused=True, engine=engine, **({"L": L} if estimator == "binom" else {}),
    )  # fmt: skip
    found = call(episodes)
    flat = torch.cat([found[n].reshape(B, -1) for n, _ in model.named_parameters()], 1)
    wanted = adjoint(model, episodes, L)
    assert float((flat - wanted).norm() / wanted.norm()) < 1e-9
    assert not found["head.weight"].any()  # theta's own head is never used
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert call.rung == rung


def test_the_start_is_the_nearest_mean_classifier():
    model, rule, (x, y, _, _) = case("convolves")
    network = Network(model)
    theta = network.parameters()
    phi = rule.start(torch.empty(0), theta, x[0], y[0], network.layout, PlainForward(network))
    f = features(model, dict(model.named_parameters()), x[0]).detach()
    distances = torch.stack([(f - f[y[0] == c].mean(0)).square().sum(1) for c in range(WAYS)], 1)
    logits = F.linear(f, *(network.layout.unflatten(phi)[f"head.{n}"] for n in ("weight", "bias")))
    assert torch.allclose(logits.log_softmax(1), (-distances).log_softmax(1), atol=1e-10)


def test_what_it_cannot_start_is_named():
    regression = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).to(D)
    data = torch.randn(4, 2, 5, 2, dtype=D)
    episodes = (data[0], data[1][..., :1], data[2], data[3][..., :1])
    with pytest.raises((DataError, ConfigError), match="no class indices"):
        binomctl.meta_gradient(regression, F.mse_loss, episodes, rule="proto-maml", L=1)
    bare = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, WAYS, bias=False)).to(D)
    with pytest.raises(ConfigError, match=r"'2' has weight \[3, 4\]"):
        binomctl.meta_gradient(bare, F.cross_entropy, case("convolves")[2], rule="proto-maml", L=1)
    rule = registry.create("rule", "proto-maml", {"head": "heda"})
    with pytest.raises(ConfigError, match="'heda' has no parameters"):
        binomctl.meta_gradient(bare, F.cross_entropy, case("convolves")[2], rule=rule, L=1)


def test_error_analysis_compares_at_theta():
    p = build_problem(
        settings_of("analysis", None, {
            "dataset.name": "glyphs", "dataset.image_size": 16, "dataset.ways": 3,
            "model.filters": 8, "rule.name": "proto-maml",
            "adaptation.K": 2, "training.meta_batch": 2,
        })[0]
    )  # fmt: skip
    how = p.adaptation(p.training_batch(range(2)), p.m)
    made = {name: registry.create("estimator", name, {}) for name in ("maml", "fomaml")}
    rows = {}
    for name, estimator in made.items():
        batch = p.training_batch(range(2))
        adapted, _, _ = adapt_and_validate(p.engine, p.theta, batch, how, range(2))
        rows[name] = estimate(estimator, adapted).theta
    cases = [Case("fomaml", made["fomaml"])]
    (found,), _ = list(analyse(p, p.theta, p.m, cases, 1))[-1]
    wanted = (rows["fomaml"] - rows["maml"]).norm(dim=1) / rows["maml"].norm(dim=1)
    assert found.task_relative == pytest.approx(wanted.tolist(), rel=1e-6)
