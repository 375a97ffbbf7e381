"""One meta-gradient of a batch: as Python runs it, compiled by torch, or as a CUDA graph.

Compiling takes 15 to 40 s and makes the many small operations of a perceptron's step two to three
times as fast. Convolutional steps gain nothing: their time is in kernels that are compiled already.
Whether a run is compiled depends on its configuration alone, so that two runs of it are the same.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from binomctl.adapt import adapt_and_validate, estimate
from binomctl.contracts import Adaptation, Adapted, Diagnosing, HasQueryLoss, Remembers
from binomctl.contracts.abilities import has
from binomctl.curvature import AutogradEngine
from binomctl.curvature.outer import OuterLossEngine
from binomctl.curvature.traits import threads_for
from binomctl.curvature.unrolled import unrolled, unrolls
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError
from binomctl.pairs import exact_over
from binomctl.problem.record import Problem
from binomctl.training.cuda_graph import Captured
from binomctl.training.recordable import captures, compiles

_LOG = logging.getLogger("binomctl")
_OPTIONS: dict[str, str | int | bool | Callable[..., object]] = {"cpp_wrapper": True}


@dataclass(frozen=True)
class Computed:
    """Query losses [B], outputs [B, N, out_dim], and the estimates of theta's and m's gradients
    [B, d], [B, n]; adapted is None where the tasks went through in chunks."""

    adapted: Adapted | None
    loss: Tensor
    prediction: Tensor
    per_task: tuple[Tensor, Tensor]
    memory: Memory | None = None
    """The next state of an estimator that has one."""


Memory = Mapping[str, Tensor]


class StepFunction(Protocol):
    """theta [d], m [n] and a batch -> what the meta-step needs; `step` is its number, `memory` the
    state of an estimator that has one."""

    def __call__(
        self,
        theta: Tensor,
        m: Tensor,
        batch: EpisodeBatch,
        step: int = 0,
        memory: Memory | None = None,
    ) -> Computed: ...


def step_function(problem: Problem) -> StepFunction:
    """The meta-gradient of a problem, compiled where `compiles` says so, recorded where `captures`
    does; what a step returns then is good until the next one."""
    run = torch.compile(_run, options=_OPTIONS) if compiles(problem) else _run
    chunk = problem.config.training.task_chunk
    if chunk is not None:
        check_chunks(problem)

    def compute(
        theta: Tensor, m: Tensor, batch: EpisodeBatch, step: int = 0, memory: Memory | None = None
    ) -> Computed:
        now = problem.at_step(step)
        how = now.adaptation(batch, m, step=step)
        with threads_for(problem.engine, len(batch)):
            if chunk is not None and chunk < len(batch):
                return _in_chunks(now, theta, how, batch, chunk)
            return run(now, theta, how, batch, memory)

    return _captured(problem, compute) if captures(problem) else compute


def _captured(problem: Problem, compute: StepFunction) -> StepFunction:
    captured = Captured(lambda theta, m, *sets: compute(theta, m, EpisodeBatch(*sets)), _check_same)
    works = True

    def recorded(
        theta: Tensor, m: Tensor, batch: EpisodeBatch, step: int = 0, memory: Memory | None = None
    ) -> Computed:
        nonlocal works
        if works:
            try:
                return captured(theta, m, batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
            except RuntimeError as error:
                if problem.config.engine.capture == "on":
                    raise ConfigError(
                        f"engine.capture = on: the meta-step cannot be recorded: {error}",
                        "Use auto.",
                        key="engine.capture",
                    ) from None
                _LOG.debug("no CUDA graph: %s", error)
                works = False
        return compute(theta, m, batch, step, memory)

    return recorded


def _check_same(found: Computed, wanted: Computed) -> None:
    one, two = found.per_task[0], wanted.per_task[0]
    if not two.isfinite().all() or not two.any():
        return  # the recording is not to blame, and the step itself says what is wrong
    error = float((one - two).norm() / two.norm())
    if not error < 1e-3:
        raise RuntimeError(f"the recorded step's meta-gradient is off by {error:.1e}")


def check_chunks(problem: Problem) -> None:
    """Refuse training.task_chunk where something is asked of all tasks together.

    Raises:
        ConfigError: naming it.
    """
    if what := _together(problem):
        raise ConfigError(f"training.task_chunk: {what}", key="training.task_chunk")


def check_ranks(problem: Problem, world: int) -> None:
    """Refuse several processes where something is asked of all tasks together.

    Raises:
        ConfigError: naming it.
    """
    if world > 1 and (what := _together(problem)):
        name = problem.config.estimator.name
        raise ConfigError(
            f"{world} processes cannot share the tasks of a meta-batch (estimator '{name}',"
            f" adaptation.statistics = {problem.config.adaptation.statistics}): {what}",
            "Train it in one process.",
        )


def _together(problem: Problem) -> str:
    """What is asked of all tasks of a meta-batch together; "" where nothing is."""
    if isinstance(problem.estimator, Remembers | Diagnosing):
        return "an estimator that remembers or diagnoses itself sees all tasks together"
    if problem.config.adaptation.statistics == "per-step":
        return "running averages of batch norm are taken over all tasks together"
    return ""


def _run(
    problem: Problem, theta: Tensor, how: Adaptation, batch: EpisodeBatch, memory: Memory | None
) -> Computed:
    engine, dataset = problem.engine, problem.dataset
    engine = engine.inner if isinstance(engine, OuterLossEngine) else engine
    last = _in_one_pass(problem, how)
    if last is not None and unrolls(engine, how, len(batch)):
        query_loss = dataset.query_loss if has(dataset, HasQueryLoss) else None
        assert isinstance(engine, AutogradEngine)
        rows, loss, prediction = unrolled(engine, theta, batch, how, last, query_loss)
        return Computed(None, loss, prediction, (rows, how.m.new_zeros(len(rows), 0)))
    keep = problem.estimator.steps(how.K)
    adapted, loss, prediction = adapt_and_validate(problem.engine, theta, batch, how, keep)
    found = estimate(problem.estimator, adapted, memory)
    return Computed(adapted, loss, prediction, (found.theta, found.m), found.state)


def _in_one_pass(problem: Problem, how: Adaptation) -> int | None:
    """The last steps over which the estimate is exact, where nobody but the outer optimiser sees
    what was computed; None otherwise."""
    seen = (
        has(problem.estimator, Diagnosing)
        or problem.config.training.error_estimate
        or problem.config.adaptation.statistics != "batch"
        or problem.config.adaptation.batch is not None
    )
    return None if seen else exact_over(problem.estimator, how.K, how.alpha)


def _in_chunks(
    problem: Problem, theta: Tensor, how: Adaptation, batch: EpisodeBatch, size: int
) -> Computed:
    """As `_run`, a few tasks at a time: no more of them hold memory together."""
    parts = []
    for start in range(0, len(batch), size):
        some = slice(start, start + size)
        noise = None if how.noise is None else how.noise[some]
        mine = dataclasses.replace(how, noise=noise)
        part = _run(problem, theta, mine, batch.tasks(some), None)
        parts.append(dataclasses.replace(part, adapted=None))
    rows, m_rows = (torch.cat([p.per_task[i] for p in parts]) for i in (0, 1))
    loss = torch.cat([p.loss for p in parts])
    outputs = [p.prediction for p in parts]
    whole = (
        torch.cat(outputs) if isinstance(outputs[0], Tensor) else [o for p in outputs for o in p]
    )
    return Computed(None, loss, whole, (rows, m_rows))
