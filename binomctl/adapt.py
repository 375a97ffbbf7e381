"""The inner loop (2b): theta -> the trajectories of B tasks, and the meta-gradient they give."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor

from binomctl.contracts import (
    Adaptation,
    Adapted,
    Curvature,
    Engine,
    Estimator,
    LearnsRule,
    PlainOnly,
    Trajectory,
)
from binomctl.curvature.mini_batches import SteppedCurvature
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError


def adapt(
    curvature: Curvature, theta: Tensor, adaptation: Adaptation, B: int, keep: Container[int] = ()
) -> Trajectory:
    """Run K steps phi^{k+1} = phi^k - alpha M grad l_trn(phi^k) from phi^0 = theta.

    With adaptation.proximal = lambda the gradient is that of l_trn + (lambda/2) |phi - theta|^2.

    Args:
        curvature: an engine at work on the support sets.
        theta: the meta-parameters [d].
        adaptation: K, alpha and the rule M.
        B: number of tasks.
        keep: the k whose Hessians will be asked for later.
    """
    theta = theta.detach()
    # Steps outermost: every phi^k is contiguous, written where it stays.
    path = theta.new_empty(adaptation.K + 1, B, len(theta))
    path[0] = theta
    losses, gradients = [], []
    learns = adaptation.m.numel() > 0
    adam = _Adam(*adaptation.adam) if adaptation.adam else None
    for k in range(adaptation.K):
        phi = path[k].data  # a version of its own: writing the next step is no change of this one
        loss, gradient = curvature.gradient(phi, k, keep=k in keep)
        if adaptation.scale != 1:
            gradient = adaptation.scale * gradient
        if learns:
            gradients.append(gradient)
        if adaptation.proximal:
            gradient = gradient + adaptation.proximal * (phi - theta)
        direction = adaptation.rule.apply(adaptation.m, gradient, adaptation.layout)
        if adam:
            direction = adam.direction(direction)
        torch.sub(phi, direction, alpha=adaptation.alpha, out=path[k + 1])
        losses.append(loss)
    kept = torch.stack(gradients, 1) if learns else None
    return Trajectory(theta, path.transpose(0, 1), torch.stack(losses, 1), adaptation, kept)


def adapt_and_validate(
    engine: Engine,
    theta: Tensor,
    batch: EpisodeBatch,
    adaptation: Adaptation,
    keep: Container[int],
) -> tuple[Adapted, Tensor, Tensor]:
    """Adapt to every support set, then take g on the query sets.

    Returns:
        What an estimator needs, the query losses l_val(phi^K) [B] and the query outputs
        [B, N_val, out_dim].
    """
    curvature = support_curvature(engine, batch)
    trajectory = adapt(curvature, theta, adaptation, len(batch), keep)
    loss, g, prediction = engine.query(trajectory.phi[:, -1], batch.x_val, batch.y_val)
    return Adapted(trajectory, g, curvature), loss, prediction


def support_curvature(engine: Engine, batch: EpisodeBatch) -> Curvature:
    """Curvature of the support losses, of their mini-batches where the batch says which."""
    if batch.mini_batches is None:
        return engine.curvature(batch.x_trn, batch.y_trn)
    return SteppedCurvature(engine, batch.x_trn, batch.y_trn, batch.mini_batches)


def estimate(estimator: Estimator, adapted: Adapted) -> tuple[Tensor, Tensor]:
    """The estimates [B, d] with respect to theta and [B, n] to the rule's meta-parameters m."""
    trajectory = adapted.trajectory
    how = trajectory.adaptation
    if trajectory.gradients is None:
        return estimator.meta_gradient(adapted), how.m.new_zeros(len(adapted.g), 0)
    assert isinstance(estimator, LearnsRule)  # check_pair has refused the others
    w = estimator.adjoints(adapted)

    def weighed(m: Tensor, gradients: Tensor, w: Tensor) -> Tensor:
        return -how.alpha * (how.rule.apply(m, gradients, how.layout) * w).sum()

    # Equation (2b) differentiated with respect to m: phi^{k+1} depends on it through M alone.
    per_task = torch.func.vmap(torch.func.grad(weighed), in_dims=(None, 0, 0))
    return w[:, 0], per_task(how.m, trajectory.gradients, w[:, 1:])


def check_pair(estimator: Estimator, name: str, adaptation: Adaptation, rule_name: str) -> None:
    """Refuse an estimator under an inner loop it is not derived for.

    Raises:
        ConfigError: with the reason.
    """
    hessians = len(estimator.steps(adaptation.K)) > 0
    if isinstance(estimator, PlainOnly) and not adaptation.rule.plain:
        raise ConfigError(
            f"estimator '{name}' cannot be used under rule '{rule_name}': {estimator.plain_only}",
            "Use rule 'gd' without fixed parameters, or another estimator.",
            key="rule.name",
        )
    if adaptation.m.numel() and not isinstance(estimator, LearnsRule):
        raise ConfigError(
            f"estimator '{name}' cannot be used under rule '{rule_name}': the rule's"
            f" {adaptation.m.numel():,} meta-parameters need the adjoints of every inner step,"
            " which it does not give",
            "Use maml, binom, trunc, hybrid or fomaml, or a rule without meta-parameters.",
            key="rule.name",
        )
    if adaptation.adam and hessians:
        raise ConfigError(
            f"estimator '{name}' cannot be used with Adam in the inner loop: a step of Adam is"
            " not linear in the gradient, so its Jacobian is not I - alpha H",
            "Use adaptation.optimizer=sgd, or an estimator that takes no Hessian (reptile, fomaml)",
            key="adaptation.optimizer",
        )


class _Adam:
    """Adam's direction (Kingma and Ba 2015) for B tasks at once; every task starts afresh."""

    def __init__(self, beta1: float, beta2: float, epsilon: float = 1e-8) -> None:
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon
        self._step = 0
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0

    def direction(self, gradient: Tensor) -> Tensor:
        self._step += 1
        self._first = self._beta1 * self._first + (1 - self._beta1) * gradient
        self._second = self._beta2 * self._second + (1 - self._beta2) * gradient**2
        first = self._first / (1 - self._beta1**self._step)
        second = self._second / (1 - self._beta2**self._step)
        return first / (second.sqrt() + self._epsilon)
