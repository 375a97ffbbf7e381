"""Every factor A_k = P_k - B_k of an inner step as a float64 matrix, and what expansions make of
them: gradient descent, or a velocity written out."""

from __future__ import annotations

import torch
from dense_oracle import flat_loss
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.episodes import EpisodeBatch
from binomctl.flat import Layout, initial_parameters
from binomctl.settings import registry

D = torch.float64
B, K, ALPHA, MOMENTUM = 3, 5, 0.08, 0.6


def problem():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).to(D)
    x, y = torch.randn(2, B, 7, 2, dtype=D), torch.randn(2, B, 7, 1, dtype=D)
    return model, (x[0], y[0], x[1], y[1])


def factors(case, b, velocity):
    """(P_k, B_k, H_k, into) of every step as matrices on the state, and g of the state."""
    model, (xs, ys, xq, yq) = case
    trn, val = (
        flat_loss(model, F.mse_loss, xs[b], ys[b]),
        flat_loss(model, F.mse_loss, xq[b], yq[b]),
    )
    phi = initial_parameters(model)
    d = len(phi)
    v, eye = torch.zeros_like(phi), torch.eye(d, dtype=D)
    steps = []
    for _ in range(K):
        H = torch.autograd.functional.hessian(trn, phi)
        gamma = torch.autograd.functional.jacobian(trn, phi)
        if velocity:
            # (phi, v) -> (phi - a v', v') with v' = mu v + gamma; the adjoint transposes.
            P = torch.zeros(2 * d, 2 * d, dtype=D)
            P[:d, :d], P[d:, :d] = eye, -ALPHA * MOMENTUM * eye
            P[d:, d:] = MOMENTUM * eye
            into = torch.cat([ALPHA * eye, -eye], 1)  # -(d step / d gamma)^T
        else:
            P, into = eye, ALPHA * eye
        embed = torch.cat([eye, torch.zeros(len(P) - d, d, dtype=D)])
        steps.append((P, embed @ H @ into, H, embed, into))
        v = MOMENTUM * v + gamma if velocity else gamma
        phi = phi - ALPHA * v
    g = torch.autograd.functional.jacobian(val, phi)
    return steps, torch.cat([g, torch.zeros(len(steps[0][0]) - d, dtype=D)])


def expanded(steps, g, L, kept=(), low=None):
    """S_L(0): all products with at most L of the B_k of steps that are not kept."""
    S = [g] * (L + 1)
    for k in reversed(range(K)):
        P, through, _, embed, into = steps[k]
        if low is not None:
            P, through = P - embed @ low @ into, through - embed @ low @ into
        if k in kept:
            S = [(P - through) @ s for s in S]
        else:
            S = [P @ S[0]] + [P @ S[j] - through @ S[j - 1] for j in range(1, L + 1)]
    return S[L]


def ours(case, name, options, velocity=False, order="auto", **more):
    model, episodes = case
    given = {"optimizer_options": {"momentum": MOMENTUM}} if velocity else {}
    found = binomctl.meta_gradient(
        model, F.mse_loss, episodes, estimator=registry.create("estimator", name, options), K=K,
        alpha=ALPHA, per_task=True, order=order, **given, **more,
    )  # fmt: skip
    return torch.cat([found[n].reshape(B, -1) for n, _ in model.named_parameters()], 1)


def wanted(case, velocity, make):
    rows = []
    for b in range(B):
        steps, g = factors(case, b, velocity)
        rows.append(make(steps, g)[: len(steps[0][2])])
    return torch.stack(rows)


def trajectory(case, velocity=False):
    model, (xs, ys, xq, yq) = case
    engine = AutogradEngine(model, F.mse_loss)
    update = registry.create_update("sgd", {"momentum": MOMENTUM}) if velocity else None
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, ALPHA, rule, torch.empty(0), Layout.of(model), update=update)
    batch = EpisodeBatch(xs, ys, xq, yq)
    return adapt_and_validate(engine, initial_parameters(model), batch, how, range(K))[0]
