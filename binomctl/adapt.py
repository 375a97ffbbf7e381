"""The inner loop: theta -> the trajectories of B tasks, and the meta-gradient they give."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from binomctl.contracts import (
    Adaptation,
    Adapted,
    Curvature,
    Descends,
    Engine,
    Estimator,
    LearnsRule,
    Linear,
    Remembers,
    RemembersAdjoints,
    Starts,
    Support,
    Trajectory,
)
from binomctl.contracts.abilities import has
from binomctl.curvature.mini_batches import SteppedCurvature
from binomctl.episodes import EpisodeBatch
from binomctl.starting import started, to_theta


def adapt(
    curvature: Curvature,
    theta: Tensor,
    adaptation: Adaptation,
    B: int,
    keep: Container[int] = (),
    support: Support | None = None,
) -> Trajectory:
    """Run K inner steps s_{k+1} = U_k(s_k, gamma_k) from phi^0, theta unless the rule says else.

    With adaptation.proximal = lambda the gradient is that of l_trn + (lambda/2) |phi - theta|^2.

    Args:
        curvature: an engine at work on the support sets.
        theta: the meta-parameters [d].
        adaptation: how every step is made.
        B: number of tasks.
        keep: the k whose Hessians will be asked for later.
        support: for a rule that makes phi^0 of it.
    """
    how, theta = adaptation, theta.detach()
    K, S, learns = how.K, how.slots, how.m.numel() > 0
    start = support if has(how.rule, Starts) else None
    # Steps outermost: every phi^k is contiguous, written where it stays.
    path = theta.new_empty(K + 1, B, len(theta))
    path[0] = theta if start is None else started(how, theta, start, B)
    slots = theta.new_zeros(K, B, S, len(theta)) if S else None
    noise = how.noise_of(B)
    losses, gradients = [], []
    descended: Tensor | None = None
    if has(curvature, Descends) and not how.proximal and how.bare(theta):
        descended = curvature.descend(path, how.alpha, keep)
    for k in range(K if descended is None else 0):
        phi = path[k].data  # a version of its own: writing the next step is no change of this one
        loss, gradient = curvature.gradient(phi, k, keep=k in keep)
        losses.append(loss)
        if how.scale != 1:
            gradient = how.scale * gradient
        if how.proximal:
            gradient = gradient + how.proximal * (phi - theta)
        if learns or not how.linear:
            gradients.append(gradient)
        if how.linear:
            assert has(how.rule, Linear)
            direction = how.rule.apply(how.m, gradient, how.layout)
            torch.sub(phi, direction, alpha=how.alpha, out=path[k + 1])
            continue
        state = phi.unsqueeze(1) if slots is None else torch.cat([phi.unsqueeze(1), slots[k]], 1)
        after = vmap(partial(how.step, k, how.m))(state, gradient, noise)
        path[k + 1] = after[:, 0]
        if slots is not None and k + 1 < K:
            slots[k + 1] = after[:, 1:]
    curvature.place(K, path[K].data)
    return Trajectory(
        theta,
        path.transpose(0, 1),
        torch.stack(losses, 1) if descended is None else descended.mT,
        how,
        torch.stack(gradients, 1) if gradients else None,
        None if slots is None else slots.transpose(0, 1),
        start,
    )


def adapt_and_validate(
    engine: Engine,
    theta: Tensor,
    batch: EpisodeBatch,
    adaptation: Adaptation,
    keep: Container[int],
    query: Engine | None = None,
) -> tuple[Adapted, Tensor, Any]:
    """Adapt to every support set, then take the outer losses' gradients on the query sets.

    Args:
        query: the engine of the outer loss, where it is another than the inner one.

    Returns:
        What an estimator needs, the query losses l_val(phi^K) [B] and the query outputs
        [B, N_val, out_dim].
    """
    curvature = support_curvature(engine, batch)
    support = support_of(engine, batch) if has(adaptation.rule, Starts) else None
    trajectory = adapt(curvature, theta, adaptation, len(batch), keep, support)
    return validate(query or engine, trajectory, curvature, batch)


def validate(
    engine: Engine, trajectory: Trajectory, curvature: Curvature, batch: EpisodeBatch
) -> tuple[Adapted, Tensor, Any]:
    """The outer losses of trajectories: as `adapt_and_validate` returns it."""
    x, y = batch.x_val, batch.y_val
    loss, g, prediction = engine.query(trajectory.phi[:, -1], x, y)
    adapted = with_outer_losses(
        trajectory, curvature, g, lambda k, c: engine.query(trajectory.phi[:, k], x, y)[1]
    )
    return adapted, loss, prediction


def with_outer_losses(
    trajectory: Trajectory,
    curvature: Curvature,
    g: Tensor,
    gradient: Callable[[int, float], Tensor],
) -> Adapted:
    """What an estimator needs of a trajectory.

    Args:
        g: grad l_val(phi^K) [B, d].
        gradient: (k, c_k) -> grad l_val(phi^k) [B, d], asked for where c_k is not 0.
    """
    how = trajectory.adaptation
    sources: dict[int, Tensor] = {}
    if how.weights is not None:
        sources = {k: c * gradient(k, c) for k, c in enumerate(how.weights[:-1]) if c}
        g = how.weights[-1] * g
    if how.slots:
        g = torch.cat([g, g.new_zeros(len(g), how.slots * g.shape[1])], 1)
    return Adapted(trajectory, g, curvature, sources)


def support_of(engine: Engine, batch: EpisodeBatch) -> Support:
    """What a rule may make phi^0 of."""
    return Support(batch.x_trn, batch.y_trn, engine.forward)


def support_curvature(engine: Engine, batch: EpisodeBatch) -> Curvature:
    """Curvature of the support losses, of their mini-batches where the batch says which."""
    if batch.mini_batches is None:
        return engine.curvature(batch.x_trn, batch.y_trn)
    return SteppedCurvature(engine, batch.x_trn, batch.y_trn, batch.mini_batches)


@dataclass(frozen=True)
class Estimate:
    """Estimates of the outer loss's gradient, one row per task: with respect to theta [B, d] and to
    the rule's meta-parameters m [B, n]; the state of an estimator that has one."""

    theta: Tensor
    m: Tensor
    state: Mapping[str, Tensor] | None = None


def estimate(
    estimator: Estimator, adapted: Adapted, state: Mapping[str, Tensor] | None = None
) -> Estimate:
    """What an estimator says of the meta-gradient, with respect to theta and m.

    Args:
        state: of an estimator that remembers; None is that before the first meta-step.
    """
    trajectory, d = adapted.trajectory, adapted.trajectory.phi.shape[-1]
    how = trajectory.adaptation
    n = how.m.numel()
    if n:
        if has(estimator, RemembersAdjoints):
            before = estimator.init_state(how.layout) if state is None else state
            w, state = estimator.advance_adjoints(adapted, before)
        else:
            assert has(estimator, LearnsRule)  # check_pair has refused the others
            w = estimator.adjoints(adapted)
        rows, m_rows = w[:, 0], adapted.rule_gradient(w[:, 1:])
    elif has(estimator, Remembers):
        before = estimator.init_state(how.layout) if state is None else state
        rows, state = estimator.advance(adapted, before)
        m_rows = how.m.new_zeros(len(rows), 0)
    else:
        rows = estimator.meta_gradient(adapted)
        m_rows = how.m.new_zeros(len(rows), 0)
    rows, more = to_theta(trajectory, rows[:, :d])
    if more is not None:
        m_rows = m_rows + more
    return Estimate(rows, m_rows, state)
