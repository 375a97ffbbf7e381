"""The inner loop: theta -> the trajectories of B tasks, and the meta-gradient they give."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp, vmap

from binomctl.contracts import (
    Adaptation,
    Adapted,
    Curvature,
    Directs,
    Engine,
    Estimator,
    LearnsRule,
    Linear,
    PlainOnly,
    Remembers,
    Starts,
    Stationary,
    Trajectory,
)
from binomctl.curvature.mini_batches import SteppedCurvature
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError


def adapt(
    curvature: Curvature,
    theta: Tensor,
    adaptation: Adaptation,
    B: int,
    keep: Container[int] = (),
    support: tuple[Any, Any] | None = None,
) -> Trajectory:
    """Run K inner steps s_{k+1} = U_k(s_k, gamma_k) from phi^0, theta unless the rule says else.

    With adaptation.proximal = lambda the gradient is that of l_trn + (lambda/2) |phi - theta|^2.

    Args:
        curvature: an engine at work on the support sets.
        theta: the meta-parameters [d].
        adaptation: how every step is made.
        B: number of tasks.
        keep: the k whose Hessians will be asked for later.
        support: the support sets (x, y), for a rule that makes phi^0 of them.
    """
    how, theta = adaptation, theta.detach()
    K, S, learns = how.K, how.slots, how.m.numel() > 0
    starts = isinstance(how.rule, Starts)
    # Steps outermost: every phi^k is contiguous, written where it stays.
    path = theta.new_empty(K + 1, B, len(theta))
    path[0] = _started(how, theta, support) if starts else theta
    slots = theta.new_zeros(K, B, S, len(theta)) if S else None
    losses, gradients = [], []
    for k in range(K):
        phi = path[k].data  # a version of its own: writing the next step is no change of this one
        loss, gradient = curvature.gradient(phi, k, keep=k in keep)
        losses.append(loss)
        if how.scale != 1:
            gradient = how.scale * gradient
        if learns or not how.linear:
            gradients.append(gradient)
        if how.proximal:
            gradient = gradient + how.proximal * (phi - theta)
            if not how.linear:
                gradients[-1] = gradient
        if how.linear:
            assert isinstance(how.rule, Linear)
            direction = how.rule.apply(how.m, gradient, how.layout)
            torch.sub(phi, direction, alpha=how.alpha, out=path[k + 1])
            continue
        state = phi.unsqueeze(1) if slots is None else torch.cat([phi.unsqueeze(1), slots[k]], 1)
        after = vmap(lambda s, gamma, k=k: how.step(k, how.m, s, gamma))(state, gradient)
        path[k + 1] = after[:, 0]
        if slots is not None and k + 1 < K:
            slots[k + 1] = after[:, 1:]
    curvature.place(K, path[K].data)
    return Trajectory(
        theta,
        path.transpose(0, 1),
        torch.stack(losses, 1),
        how,
        torch.stack(gradients, 1) if gradients else None,
        None if slots is None else slots.transpose(0, 1),
        support if starts else None,
    )


def _started(how: Adaptation, theta: Tensor, support: tuple[Any, Any] | None) -> Tensor:
    """phi^0 [B, d] of a rule that makes it of theta and the support sets."""
    assert isinstance(how.rule, Starts)
    assert support is not None
    rule = how.rule
    out: Tensor = vmap(lambda x, y: rule.start(how.m, theta, x, y, how.layout))(*support)
    return out


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
    support = (batch.x_trn, batch.y_trn)
    trajectory = adapt(curvature, theta, adaptation, len(batch), keep, support)
    return validate(query or engine, trajectory, curvature, batch)


def validate(
    engine: Engine, trajectory: Trajectory, curvature: Curvature, batch: EpisodeBatch
) -> tuple[Adapted, Tensor, Any]:
    """The outer losses of trajectories: as `adapt_and_validate` returns it."""
    how = trajectory.adaptation
    x, y = batch.x_val, batch.y_val
    loss, g, prediction = engine.query(trajectory.phi[:, -1], x, y)
    sources: dict[int, Tensor] = {}
    if how.weights is not None:
        for k, c in enumerate(how.weights[:-1]):
            if c:
                sources[k] = c * engine.query(trajectory.phi[:, k], x, y)[1]
        g = how.weights[-1] * g
    if how.slots:
        g = torch.cat([g, g.new_zeros(len(g), how.slots * g.shape[1])], 1)
    return Adapted(trajectory, g, curvature, sources), loss, prediction


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
        assert isinstance(estimator, LearnsRule)  # check_pair has refused the others
        w = estimator.adjoints(adapted)
        rows, m_rows = w[:, 0], adapted.rule_gradient(w[:, 1:])
    elif isinstance(estimator, Remembers):
        before = estimator.init_state(how.layout) if state is None else state
        rows, state = estimator.advance(adapted, before)
        m_rows = how.m.new_zeros(len(rows), 0)
    else:
        rows = estimator.meta_gradient(adapted)
        m_rows = how.m.new_zeros(len(rows), 0)
    rows = rows[:, :d]
    if trajectory.support is not None:
        rows, more = _through_start(trajectory, rows)
        m_rows = m_rows + more
    return Estimate(rows, m_rows, state)


def _through_start(trajectory: Trajectory, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Cotangents of phi^0 [B, d] pulled back to theta [B, d] and m [B, n]."""
    how, support = trajectory.adaptation, trajectory.support
    assert isinstance(how.rule, Starts)
    rule = how.rule

    def pulled(x: Any, y: Any, w: Tensor) -> tuple[Tensor, Tensor]:
        def start(m: Tensor, theta: Tensor) -> Tensor:
            return rule.start(m, theta, x, y, how.layout)

        m, theta = vjp(start, how.m, trajectory.theta)[1](w)
        return theta, m

    assert support is not None
    found: tuple[Tensor, Tensor] = vmap(pulled)(*support, rows)
    return found


def check_pair(estimator: Estimator, name: str, adaptation: Adaptation, rule_name: str) -> None:
    """Refuse an estimator under an inner loop it is not derived for.

    Raises:
        ConfigError: with the reason.
    """
    update = adaptation.update
    if isinstance(estimator, PlainOnly) and not adaptation.rule.plain:
        raise ConfigError(
            f"estimator '{name}' cannot be used under rule '{rule_name}': {estimator.plain_only}",
            "Use plain gradient descent without fixed parameters, or another estimator"
            " (binomctl plugins lists them).",
            key="rule.name",
        )
    if adaptation.m.numel() and not isinstance(estimator, LearnsRule):
        raise ConfigError(
            f"estimator '{name}' cannot be used under rule '{rule_name}': the rule's"
            f" {adaptation.m.numel():,} meta-parameters need the adjoints of every inner step,"
            " which it does not give",
            "Use an estimator that gives them, as every expansion does, or a rule without"
            " meta-parameters.",
            key="rule.name",
        )
    if isinstance(estimator, Stationary) and update is not None and update.shifts:
        raise ConfigError(
            f"estimator '{name}' cannot be used with this inner optimiser: {estimator.stationary},"
            f" and {update.shifts}",
            "Set its weight decay to 0, or use another estimator.",
            key="adaptation.optimizer",
        )
    if isinstance(estimator, PlainOnly | Stationary) and adaptation.weights is not None:
        raise ConfigError(
            f"estimator '{name}' knows the outer loss at phi^K alone",
            "Leave adaptation.step_losses at last, or use another estimator.",
            key="adaptation.step_losses",
        )
    check_weights(adaptation)
    check_step(adaptation)


def check_weights(adaptation: Adaptation) -> None:
    """Refuse weights c_0 .. c_K of another length, not finite, or all zero."""
    weights, K = adaptation.weights, adaptation.K
    if weights is None:
        return
    if len(weights) != K + 1:
        raise ConfigError(
            f"{len(weights)} weights of outer losses for K = {K} inner steps",
            f"Give K + 1 = {K + 1}: c_0 at phi^0 to c_K at phi^K.",
            key="adaptation.step_losses",
        )
    if not all(-float("inf") < c < float("inf") for c in weights) or not any(weights):
        raise ConfigError(
            f"the weights of outer losses {list(weights)} must be finite, and one must not be 0",
            key="adaptation.step_losses",
        )


def check_step(adaptation: Adaptation) -> None:
    """Run the step once, on a task alone and among others: it must be pure and finite.

    Raises:
        ConfigError: it gives two answers for one input, other shapes, or no finite numbers.
    """
    how = adaptation
    if not isinstance(how.rule, Linear | Directs):
        raise ConfigError(
            f"the rule {type(how.rule).__name__} offers neither apply and apply_transpose nor"
            " direction",
            "See Linear and Directs in binomctl.contracts.",
            key="rule.name",
        )
    if not bool(torch.isfinite(how.m).all()):
        raise ConfigError("the rule's meta-parameters are not finite", key="rule.name")
    if how.linear:
        return
    like = how.m.new_empty(0) if how.m.is_floating_point() else torch.empty(0)
    random = torch.Generator().manual_seed(5)
    s = torch.zeros(2, how.slots + 1, how.layout.d)
    s[:, 0] = torch.randn(2, how.layout.d, generator=random)
    gamma = torch.randn(2, how.layout.d, generator=random)
    s, gamma = s.to(like), gamma.to(like)

    def run() -> Tensor:
        out: Tensor = vmap(lambda s, gamma: how.step(0, how.m, s, gamma))(s, gamma)
        return out

    what = "the inner step (rule and optimiser)"
    try:
        one, two = run(), run()
        alone = how.step(0, how.m, s[1], gamma[1])
    except RuntimeError as error:
        raise ConfigError(
            f"{what} fails: {' '.join(str(error).split())[:200]}",
            "It must be torch operations on one task's tensors, without a decision on their"
            " values.",
            key="adaptation.optimizer",
        ) from error
    if one.shape != s.shape:
        raise ConfigError(f"{what} returns shape {list(one.shape[1:])}, not {list(s.shape[1:])}")
    if not torch.equal(one, two) or not torch.allclose(one[1], alone, rtol=1e-4, atol=1e-6):
        raise ConfigError(
            f"{what} gives two answers for one input: it must be pure, and see one task alone",
            key="adaptation.optimizer",
        )
    if not bool(torch.isfinite(one).all()):
        raise ConfigError(f"{what} makes a state that is not finite", key="adaptation.optimizer")
