"""What a training would take: a few of its own meta-steps and test tasks, timed and multiplied."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from binomctl.problem.engines import with_section
from binomctl.problem.record import Problem
from binomctl.profiling.allocations import peak_allocated, peak_on_a_gpu
from binomctl.profiling.observed import timed_step
from binomctl.training.recordable import compiles
from binomctl.training.run import validate
from binomctl.training.state import MetaState
from binomctl.training.step import step_function

STEPS = 5
PIECES = STEPS + 3
"""Of a forecast: the first step, those that are timed, one for its memory, a validation."""


@dataclass(frozen=True)
class Forecast:
    """Of a run on this machine as it is now.

    step_ms: a meta-step, the median of STEPS; validation_s: one validation; seconds: of all steps
    and validations; memory_bytes: tensors alive at a meta-step's peak, beyond those before it;
    compiled: whether the run's own steps would be compiled, which these are not.
    """

    steps: int
    step_ms: float
    validations: int
    validation_s: float
    seconds: float
    memory_bytes: int
    compiled: bool


def forecast(problem: Problem, told: Callable[[], None] = lambda: None) -> Forecast:
    """Measure a few meta-steps and a batch of validation tasks; nothing is kept of them.

    Args:
        told: called after each of PIECES.
    """
    compiled = bool(compiles(problem))
    own = problem
    if compiled:
        plain = with_section(problem.config, compile="off")
        own = replace(problem, config=plain)
    training, B = own.config.training, own.config.training.meta_batch
    state, whole = MetaState(own), step_function(own)

    def step(i: int) -> float:
        took = sum(timed_step(own, state, range(i * B, (i + 1) * B), whole).values())
        told()
        return took

    times = [step(i) for i in range(STEPS + 1)][1:]
    memory = _peak(own, lambda: step(STEPS + 1))
    tasks = min(B, training.validation_tasks)
    few = training.model_copy(update={"validation_tasks": tasks})
    shorter = replace(own, config=own.config.model_copy(update={"training": few}))
    begun = time.perf_counter()
    validate(shorter, state)
    told()
    validation = (time.perf_counter() - begun) / tasks * training.validation_tasks
    step_ms = statistics.median(times)
    validations = training.steps // training.validate_every
    seconds = training.steps * step_ms / 1e3 + validations * validation
    return Forecast(training.steps, step_ms, validations, validation, seconds, memory, compiled)


def _peak(problem: Problem, step: Callable[[], object]) -> int:
    if problem.device.type != "cuda":
        return peak_allocated(step)
    before, peak = peak_on_a_gpu(problem.device, step)
    return peak - before
