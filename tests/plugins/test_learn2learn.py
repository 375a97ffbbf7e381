"""Meta-gradients against learn2learn's own algorithms: same weights, same episodes.

learn2learn is installed for the tests (see the Makefile); it is a peer, not a dependency.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.flat import Layout
from binomctl.models import MODELS
from binomctl.models.conv4 import Conv4

with warnings.catch_warnings():  # of gym and of learn2learn's own imports
    warnings.simplefilter("ignore")
    import learn2learn as l2l

B, K = 2, 3
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=["conv4", "mlp"])
def problem(request, dtype):
    """(model, loss, episodes, alpha); the step size keeps alpha H below 1."""
    torch.manual_seed(11)
    if request.param == "mlp":
        model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh())
        model.append(nn.Linear(20, 1))
        x = torch.randn(2, B, 10, 1)
        return model.to(dtype), F.mse_loss, tuple(
            t.to(dtype) for t in (x[0], x[0].sin(), x[1], x[1].sin())
        ), 0.02  # fmt: skip
    model = Conv4(filters=8).build((1, 28, 28), 5).to(dtype)
    x = torch.rand(2, B, 10, 1, 28, 28, dtype=dtype)
    y = torch.arange(5).repeat(2).expand(B, -1)
    return model, F.cross_entropy, (x[0], y, x[1], y), 0.01


def backward(learner, problem):
    """learn2learn's loop: clone, adapt K times, backward; mean over the tasks."""
    _, loss, (x_trn, y_trn, x_val, y_val), _ = problem
    for b in range(B):
        clone = learner.clone()
        for _ in range(K):
            clone.adapt(loss(clone(x_trn[b]), y_trn[b]))
        (loss(clone(x_val[b]), y_val[b]) / B).backward()


def ours(problem, estimator, rule="gd", m=None):
    model, loss, episodes, alpha = problem
    return binomctl.meta_gradient(
        model, loss, episodes, estimator=estimator, rule=rule, rule_parameters=m, K=K, alpha=alpha
    )


def agree(found, expected, dtype):
    """In norm over all parameters: an entry that is a difference of large ones has no digits."""
    found, expected = (torch.cat([t.reshape(-1) for t in side]) for side in (found, expected))
    assert expected.norm() > 0
    error = float((found - expected).norm() / expected.norm())
    assert error <= TOLERANCE[dtype], f"relative difference {error:.1e}"


@pytest.mark.parametrize(("estimator", "first_order"), [("maml", False), ("fomaml", True)])
def test_maml(problem, dtype, estimator, first_order):
    model, _, _, alpha = problem
    found = ours(problem, estimator)
    backward(l2l.algorithms.MAML(model, lr=alpha, first_order=first_order), problem)
    names = [n for n, _ in model.named_parameters()]
    agree([found[n] for n in names], [p.grad for p in model.parameters()], dtype)


@pytest.mark.parametrize(("estimator", "first_order"), [("maml", False), ("fomaml", True)])
def test_meta_sgd(problem, dtype, estimator, first_order):
    model, _, _, alpha = problem
    layout = Layout.of(model)
    s = 0.5 + torch.rand(layout.d, dtype=dtype)
    found = ours(problem, estimator, "meta-sgd", s)
    lrs = [nn.Parameter(alpha * part) for part in layout.unflatten(s).values()]
    learner = l2l.algorithms.MetaSGD(model, lrs=nn.ParameterList(lrs), first_order=first_order)
    backward(learner, problem)
    names = [n for n, _ in model.named_parameters()]
    agree([found[n] for n in names], [p.grad for p in model.parameters()], dtype)
    # Ours is relative to alpha: lr = alpha s, so d/ds = alpha d/dlr.
    agree([found["rule.m"]], [alpha * lr.grad for lr in learner.lrs], dtype)


@pytest.mark.parametrize(("estimator", "first_order"), [("maml", False), ("fomaml", True)])
def test_meta_curvature(problem, dtype, estimator, first_order):
    model, _, _, alpha = problem
    transform = l2l.optim.transforms.MetaCurvatureTransform
    learner = l2l.algorithms.GBML(model, transform=transform, lr=alpha, first_order=first_order).to(
        dtype
    )
    torch.manual_seed(3)
    parts, gradients = [], []
    for module in learner.compute_update.transforms_modules:
        # learn2learn multiplies the second mode from the right: its matrix is ours transposed.
        for name in ("mc", "mc_in", "mc_out", "mc_f"):
            p = getattr(module, name, None)
            if p is not None:
                with torch.no_grad():
                    p += 0.05 * torch.randn_like(p)
                parts.append((p.detach().mT if name == "mc_out" else p.detach()).reshape(-1))
                gradients.append((p, name))
    found = ours(problem, estimator, "meta-curvature", torch.cat(parts))
    backward(learner, problem)
    names = [n for n, _ in model.named_parameters()]
    agree([found[n] for n in names], [p.grad for p in model.parameters()], dtype)
    expected = [(p.grad.mT if name == "mc_out" else p.grad) for p, name in gradients]
    agree([found["rule.m"]], expected, dtype)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("conv4", {"filters": 32}, lambda m: m.MiniImagenetCNN(5, hidden_size=32)),
        ("resnet12", {}, lambda m: m.ResNet12(5)),
        ("resnet12", {"filters": (64, 128, 256, 512)}, lambda m: m.ResNet12(5, 512, wider=False)),
        ("wrn28", {}, lambda m: m.WRN28(5)),
    ],
)
def test_networks_have_the_parameters_of_learn2learn_s(name, options, theirs):
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = theirs(l2l.vision.models)
        own = MODELS[name](**options).build((3, 84, 84), 5)
    assert sorted(p.shape for p in own.parameters()) == sorted(
        p.shape for p in reference.parameters()
    )
