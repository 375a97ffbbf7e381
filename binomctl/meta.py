"""The meta-training loop: a generator of Step records; it prints nothing and writes no file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.adapt import adapt_and_validate
from binomctl.errors import NonFiniteError
from binomctl.problem import Problem


@dataclass(frozen=True)
class Step:
    """One meta-step: its number (1-based), mean query loss and metric over the meta-batch."""

    step: int
    loss: float
    metric: float


class MetaState:
    """What meta-training carries from step to step: theta [d] and the outer optimiser."""

    def __init__(self, problem: Problem) -> None:
        self.theta = problem.theta.clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.theta], lr=problem.config.training.meta_lr)
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
    while state.step < training.steps:
        indices = range(state.step * B, (state.step + 1) * B)
        gradient, loss, metric = meta_gradient(problem, state.theta.detach(), indices)
        state.theta.grad = gradient
        state.optimizer.step()
        state.step += 1
        yield Step(state.step, loss, metric)


def meta_gradient(problem: Problem, theta: Tensor, indices: range) -> tuple[Tensor, float, float]:
    """The estimate [d] of the meta-gradient over training episodes, mean loss and mean metric."""
    dataset, estimator = problem.dataset, problem.estimator
    adaptation = problem.adaptation()
    batch = problem.batch(dataset, "train", indices)
    keep = estimator.steps(adaptation.K)
    adapted, loss, prediction = adapt_and_validate(problem.engine, theta, batch, adaptation, keep)
    per_task = estimator.meta_gradient(adapted)
    bad = ~(torch.isfinite(per_task).all(-1) & torch.isfinite(loss))
    if bad.any():
        tasks = [indices[i] for i in bad.nonzero().flatten().tolist()]
        raise NonFiniteError(
            f"the loss or meta-gradient is not finite in {len(tasks)} of {len(batch)} tasks"
            f" (training episodes {tasks})",
            "Lower adaptation.alpha or training.meta_lr; the last checkpoint is intact.",
        )
    total = per_task.mean(0) if problem.config.training.reduction == "mean" else per_task.sum(0)
    scores = [dataset.metric(p, y) for p, y in zip(prediction, batch.y_val, strict=True)]
    return total, float(loss.mean()), float(torch.stack(scores).mean())
