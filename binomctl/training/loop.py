"""The meta-training loop: a generator of Step records; it prints nothing and writes no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from binomctl.contracts import Diagnosing, Remembers, Trajectory
from binomctl.episodes import EpisodeBatch
from binomctl.errors import NonFiniteError
from binomctl.machine.prefetch import ahead
from binomctl.problem.batch_norm import Statistics, measure
from binomctl.problem.record import Problem
from binomctl.training.optimiser import build_optimizer, clip, learning_rate
from binomctl.training.step import Computed, StepFunction, step_function


@dataclass(frozen=True)
class Step:
    """One meta-step: its number (1-based), mean query loss and metric over the meta-batch.

    diagnostics: what the estimator says of its own estimates, means over the tasks; empty at
    steps that are not logged.
    """

    step: int
    loss: float
    metric: float
    diagnostics: dict[str, float] = field(default_factory=dict)


class MetaState:
    """What meta-training carries from step to step: theta [d], the rule's m [n], the outer
    optimiser, batch norm's running averages where it has them, an estimator's state."""

    def __init__(self, problem: Problem) -> None:
        self.theta = problem.theta.clone().requires_grad_()
        self.m = problem.m.clone().requires_grad_()
        self.optimizer = build_optimizer(problem.config.training, [self.theta, self.m])
        self.statistics: Statistics | None = problem.frozen
        self.memory: Mapping[str, Tensor] | None = None
        if isinstance(problem.estimator, Remembers):
            self.memory = problem.estimator.init_state(problem.engine.layout)
        self.step = 0


def meta_train(problem: Problem, state: MetaState) -> Iterator[Step]:
    """Advance `state` to the configured number of meta-steps, yielding after each one.

    Step s trains on the episodes s B .. s B + B - 1 of the training split, whatever came before.

    Raises:
        NonFiniteError: the loss or the meta-gradient is not finite; `state` is that before the
            step.
    """
    training = problem.config.training
    B = training.meta_batch
    compute = step_function(problem)
    indices = (range(s * B, (s + 1) * B) for s in range(state.step, training.steps))
    for tasks, drawn in ahead(problem.draw_training, indices, training.workers):
        diagnose = (state.step + 1) % training.log_every == 0
        yield _advance(problem, state, tasks, problem.place(drawn), diagnose, compute)


def _advance(
    problem: Problem,
    state: MetaState,
    indices: range,
    batch: EpisodeBatch,
    diagnose: bool,
    compute: StepFunction,
) -> Step:
    at = compute(state.theta.detach(), state.m.detach(), batch, state.step, state.memory)
    update(problem, state, indices, batch, at)
    figures: dict[str, float] = {}
    if diagnose and isinstance(problem.estimator, Diagnosing):
        named = problem.estimator.diagnose(at.adapted, at.per_task[0])
        figures = {name: float(value.mean()) for name, value in named.items()}
    metric = problem.dataset.metric
    scores = [metric(p, y) for p, y in zip(at.prediction, batch.y_val, strict=True)]
    return Step(state.step, float(at.loss.mean()), float(torch.stack(scores).mean()), figures)


def update(
    problem: Problem, state: MetaState, indices: range, batch: EpisodeBatch, at: Computed
) -> None:
    """One step of the outer optimiser with what was computed for a batch.

    Raises:
        NonFiniteError: the loss or the meta-gradient is not finite; nothing is changed.
    """
    training = problem.config.training
    _check_finite(indices, at.loss, at.per_task)
    factor, mean = problem.query_factor(batch), training.reduction == "mean"
    totals = [factor * (g.mean(0) if mean else g.sum(0)) for g in at.per_task]
    for parameter, gradient in zip((state.theta, state.m), clip(training, totals), strict=True):
        parameter.grad = gradient
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(training, state.step)
    state.optimizer.step()
    state.step += 1
    state.memory = at.memory
    if problem.config.adaptation.statistics == "per-step":
        new = step_statistics(problem, at.adapted.trajectory, batch)
        state.statistics = state.statistics.blend(new) if state.statistics else new


def step_statistics(problem: Problem, trajectory: Trajectory, batch: EpisodeBatch) -> Statistics:
    """Batch norm's input statistics at phi^0..phi^{K-1} on the support and phi^K on the query."""
    layout, K = problem.engine.layout, trajectory.adaptation.K

    def tasks(k: int) -> list[dict[str, Tensor]]:
        return [layout.unflatten(phi) for phi in trajectory.phi[:, k]]

    inputs = [batch.x_trn] * K + [batch.x_val]
    return measure(problem.model, ((tasks(k), x) for k, x in enumerate(inputs)))


def _check_finite(indices: range, loss: Tensor, per_task: tuple[Tensor, Tensor]) -> None:
    good = torch.isfinite(loss)
    for gradient in per_task:
        good = good & torch.isfinite(gradient).all(-1)
    if not good.all():
        tasks = [indices[i] for i in (~good).nonzero().flatten().tolist()]
        raise NonFiniteError(
            f"the loss or meta-gradient is not finite in {len(tasks)} of {len(good)} tasks"
            f" (training episodes {tasks})",
            "Lower adaptation.alpha or training.meta_lr; the last checkpoint is intact.",
        )
