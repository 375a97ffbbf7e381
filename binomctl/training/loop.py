"""The meta-training loop: a generator of Step records; it prints nothing and writes no file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from binomctl.contracts import Diagnosing, Trajectory
from binomctl.episodes import EpisodeBatch
from binomctl.errors import NonFiniteError
from binomctl.expansion import estimated_error
from binomctl.machine.memory import out_of_memory_in_words
from binomctl.machine.prefetch import ahead
from binomctl.machine.ranks import ALONE, Ranks
from binomctl.problem.batch_norm import Statistics, measure
from binomctl.problem.record import Problem
from binomctl.training.optimiser import clip, learning_rate
from binomctl.training.state import MetaState
from binomctl.training.step import Computed, StepFunction, check_ranks, step_function
from binomctl.training.total import Total, in_one, packed, scores, unpacked

MOST_IN_A_ROW = 20
"""Steps skipped one after another: from there on it is no accident."""
LOWER = "Lower adaptation.alpha (--alpha) or training.meta_lr (--meta-lr)."
LESS_MEMORY = (
    "Lower training.task_chunk (--task-chunk), training.meta_batch or dataset.queries, or set"
    " engine.memory=recompute."
)


@dataclass(frozen=True)
class Step:
    """One meta-step: its number (1-based), mean query loss and metric over the meta-batch.

    diagnostics: what the estimator says of its own estimates, means over the tasks; empty at
    steps that are not logged. skipped: why nothing was changed; "" for a step that was made.
    """

    step: int
    loss: float
    metric: float
    diagnostics: dict[str, float] = field(default_factory=dict)
    skipped: str = ""


def meta_train(problem: Problem, state: MetaState, ranks: Ranks = ALONE) -> Iterator[Step]:
    """Advance `state` to the configured number of meta-steps, yielding after each one.

    Step s trains on the episodes s B .. s B + B - 1 of the training split, whatever came before and
    however many ranks share them: rank r of W takes every W-th from the r-th on.

    Under training.on_nonfinite = skip a step whose numbers are not finite changes nothing but the
    counters.

    Raises:
        NonFiniteError: the loss or the meta-gradient is not finite, or was so too many times in a
            row; `state` is that before the step. On one rank: on all of them.
        ConfigError: several ranks, and something is asked of all tasks together.
    """
    check_ranks(problem, ranks.world)
    training = problem.config.training
    B = training.meta_batch
    compute = step_function(problem)
    indices = (range(s * B, (s + 1) * B) for s in range(state.step, training.steps))
    in_a_row = 0

    def draw(tasks: range) -> EpisodeBatch:
        # A rank that has none repeats the first one, at no cost in time, and counts it nowhere.
        return problem.draw_training(ranks.mine(tasks) or tasks[:1])

    for tasks, drawn in ahead(draw, indices, training.workers):
        diagnose = (state.step + 1) % training.log_every == 0
        try:
            step = _advance(problem, state, tasks, drawn, diagnose, compute, ranks)
            in_a_row = 0
        except NonFiniteError as error:
            in_a_row += 1
            if training.on_nonfinite == "raise" or in_a_row > MOST_IN_A_ROW:
                raise
            state.step, state.skipped = state.step + 1, state.skipped + 1
            step = Step(state.step, math.nan, math.nan, skipped=str(error))
        yield step


def _advance(
    problem: Problem,
    state: MetaState,
    indices: range,
    drawn: EpisodeBatch,
    diagnose: bool,
    compute: StepFunction,
    ranks: Ranks,
) -> Step:
    alone, size = ranks.world == 1, len(indices)
    with ranks.alike(), out_of_memory_in_words(problem.device, LESS_MEMORY):
        batch = problem.place(drawn)
        at = compute(state.theta.detach(), state.m.detach(), batch, state.step, state.memory)
        flat = None if alone else packed(problem, at, batch, ranks, size)
    total = None if flat is None else unpacked(problem, ranks.sum_(flat), size)
    update(problem, state, indices, batch, at, total)
    figures: dict[str, float] = {}
    problem = problem.at_step(state.step - 1)
    if diagnose and problem.config.training.error_estimate:
        estimated = _estimated(problem, at, ranks, size)
        if estimated is not None:
            figures["error_estimate"] = float(estimated.median())
    if diagnose and isinstance(problem.estimator, Diagnosing):
        assert at.adapted is not None
        named = problem.estimator.diagnose(at.adapted, at.per_task[0])
        figures |= {name: float(value.mean()) for name, value in named.items()}
    if total is None or total.score is None:
        return Step(
            state.step, float(at.loss.mean()), float(scores(problem, at, batch).mean()), figures
        )
    return Step(state.step, float(total.loss.mean()), float(total.score.mean()), figures)


def _estimated(problem: Problem, at: Computed, ranks: Ranks, size: int) -> Tensor | None:
    """The estimated error of every task [B], as far as the estimator says one."""
    if ranks.world > 1 and problem.config.training.task_chunk is not None:
        return None  # a rank with few tasks has them in one chunk, another has not
    places = ranks.mine(range(size))
    with ranks.alike():
        found = None if at.adapted is None else estimated_error(problem.estimator, at.adapted)
    return None if found is None else ranks.whole(found[: len(places)], places, size)


def update(
    problem: Problem,
    state: MetaState,
    indices: range,
    batch: EpisodeBatch,
    at: Computed,
    total: Total | None = None,
) -> None:
    """One step of the outer optimiser with what was computed for a batch.

    Args:
        total: of all ranks; None where this process has computed all tasks.

    Raises:
        NonFiniteError: the loss or the meta-gradient is not finite; nothing is changed.
    """
    training = problem.config.training
    total = total or in_one(problem, at)
    _check_finite(indices, total, at)
    factor = problem.query_factor(batch)
    totals = [factor * gradient for gradient in total.gradients]
    if problem.learned is not None:
        totals[0] = problem.learned * totals[0]
    for parameter, gradient in zip((state.theta, state.m), clip(training, totals), strict=True):
        parameter.grad = gradient
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(training, state.step)
    state.optimizer.step()
    state.step += 1
    if at.memory is not None:  # a stage before the run's own estimator has none to give
        state.memory = at.memory
    if problem.config.adaptation.statistics == "per-step":
        assert at.adapted is not None
        new = step_statistics(problem, at.adapted.trajectory, batch)
        state.statistics = state.statistics.blend(new) if state.statistics else new


def step_statistics(problem: Problem, trajectory: Trajectory, batch: EpisodeBatch) -> Statistics:
    """Batch norm's input statistics at phi^0..phi^{K-1} on the support and phi^K on the query."""
    layout, K = problem.engine.layout, trajectory.adaptation.K

    def tasks(k: int) -> list[dict[str, Tensor]]:
        return [layout.unflatten(phi) for phi in trajectory.phi[:, k]]

    inputs = [batch.x_trn] * K + [batch.x_val]
    return measure(problem.model, ((tasks(k), x) for k, x in enumerate(inputs)))


def _check_finite(indices: range, total: Total, at: Computed) -> None:
    good = total.finite
    if not good.all():
        tasks = [indices[i] for i in (~good).nonzero().flatten().tolist()]
        shown = ", ".join(map(str, tasks[:5])) + (", ..." if len(tasks) > 5 else "")
        raise NonFiniteError(
            f"the loss or meta-gradient is not finite in {len(tasks)} of {len(good)} tasks"
            f" (training episodes [{shown}])",
            LOWER,
        )
    for name, tensor in (at.memory or {}).items():
        if not torch.isfinite(tensor).all():
            raise NonFiniteError(f"the estimator's state '{name}' is not finite", LOWER)
