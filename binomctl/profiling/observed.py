"""A step with its parts told apart: time by phase, products counted, ranges named for traces."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.profiler import record_function

from binomctl.adapt import adapt, estimate, support_curvature, support_of, validate
from binomctl.contracts import Adaptation, Curvature, Trajectory
from binomctl.curvature.traits import threads_for
from binomctl.episodes import EpisodeBatch
from binomctl.problem.record import Problem
from binomctl.training.loop import update
from binomctl.training.state import MetaState
from binomctl.training.step import Computed, StepFunction


class Clock:
    """Time between marks: the processor's, or CUDA events on a GPU's stream."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []
        self.mark("")

    def mark(self, ended: str) -> None:
        """A phase has ended, and the next begins."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((ended, event))
        else:
            self._marks.append((ended, time.perf_counter()))

    def read(self) -> dict[str, float]:
        """Milliseconds by phase."""
        if self._cuda:
            torch.cuda.synchronize()
        return {
            name: _between(before, after)
            for (_, before), (name, after) in zip(self._marks, self._marks[1:], strict=False)
        }


def _between(before: float | torch.cuda.Event, after: float | torch.cuda.Event) -> float:
    if isinstance(before, torch.cuda.Event):
        assert isinstance(after, torch.cuda.Event)
        return float(before.elapsed_time(after))
    assert not isinstance(after, torch.cuda.Event)
    return 1e3 * (after - before)


class ObservedCurvature:
    """An engine's curvature with names of the paper's phases, and a count of its products.

    Args:
        order: what estimators are told; None leaves it as the engine says.
    """

    def __init__(self, inner: Curvature, order: Literal["rows", "columns"] | None = None) -> None:
        self._inner = inner
        self.order = order or inner.order
        self.products = self.levels = self.linearisations = 0
        self.points: set[int] = set()
        self.together = 1  # points that are linearised in one pass

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        with record_function(f"adapt {k}"):
            return self._inner.gradient(phi, k, keep)

    def place(self, k: int, phi: Tensor) -> None:
        self._inner.place(k, phi)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        name = "level" if self.order == "columns" else f"row k={ks[0]}, call"
        with record_function(f"hvp {name} {self.levels}"):
            self.levels += 1
            self.products += len(ks)
            self.linearisations += len(set(ks))
            self.points |= set(ks)
            if self.order == "columns":
                self.together = max(self.together, len(ks))
            return self._inner.hvp(ks, V)


def counted(problem: Problem, order: Literal["rows", "columns"] | None) -> ObservedCurvature:
    """An estimator at work on one task: its Hessian-vector products, its sequential calls (by
    columns the levels it needs at least), the linearisations they use."""
    batch = problem.training_batch(range(1))
    how = problem.adaptation(batch, problem.m, step=0)
    observed = ObservedCurvature(support_curvature(problem.engine, batch), order)
    trajectory = _adapted(problem, observed, how, batch)
    estimate(problem.estimator, validate(problem.engine, trajectory, observed, batch)[0])
    return observed


def _adapted(
    problem: Problem, curvature: Curvature, how: Adaptation, batch: EpisodeBatch
) -> Trajectory:
    keep, support = problem.estimator.steps(how.K), support_of(problem.engine, batch)
    return adapt(curvature, problem.theta, how, len(batch), keep, support)


def timed_step(
    problem: Problem, state: MetaState, indices: range, whole: StepFunction | None
) -> dict[str, float]:
    """One meta-step from drawing its tasks to the outer optimiser: milliseconds by phase.

    Args:
        state: its optimiser takes a step; the parameters that tasks start from stay problem.theta,
            so that all steps measured cost the same.
        whole: a compiled or recorded step, whose middle phases are one ("step").
    """
    clock = Clock(problem.device)
    with threads_for(problem.engine, len(indices)):  # as a run does
        with record_function("data"):
            batch = problem.place(problem.draw_training(indices))
        clock.mark("data")
        if whole is not None:
            at = whole(problem.theta, problem.m, batch)
            clock.mark("step")
        else:
            how = problem.adaptation(batch, problem.m, step=state.step)
            observed = ObservedCurvature(support_curvature(problem.engine, batch))
            trajectory = _adapted(problem, observed, how, batch)
            clock.mark("adaptation")
            with record_function("query gradient"):
                adapted, loss, prediction = validate(problem.engine, trajectory, observed, batch)
            clock.mark("query")
            with record_function("meta-gradient"):
                found = estimate(problem.estimator, adapted, state.memory)
                at = Computed(adapted, loss, prediction, (found.theta, found.m), found.state)
            clock.mark("meta_gradient")
        with record_function("outer"):
            update(problem, state, indices, batch, at)
        clock.mark("outer")
    return clock.read()
