"""A run's last steps made again: whether it computes today what it computed then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import binomctl.runs.metrics as metrics
from binomctl.machine.ranks import ALONE, Ranks
from binomctl.problem.record import Problem
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.training.loop import meta_train
from binomctl.training.state import MetaState, own_generators, resume, snapshot


@dataclass(frozen=True)
class Replay:
    """Steps first + 1 .. last made again.

    logged: how many lines of metrics.jsonl were compared; differing: the steps whose loss is
    another; tensors: names of what differs from the checkpoint in any bit.
    """

    first: int
    last: int
    logged: int
    differing: tuple[int, ...]
    tensors: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not (self.differing or self.tensors)


def replay(
    problem: Problem,
    run: RunDirectory,
    start: Checkpoint | None,
    end: Checkpoint,
    ranks: Ranks = ALONE,
    told: Callable[[], None] = lambda: None,
) -> Replay:
    """Train from a checkpoint, or from the start, to a later one.

    Args:
        told: called after each step.
        problem: the run's, with the constants of `end`.
        ranks: as many as the run had, for the same bits: other ranks sum in another order.
    """
    losses = {r["step"]: r.get("train_loss") for r in metrics.read(run.path / "metrics.jsonl")}
    compared, differing = 0, []
    with own_generators(problem):
        state = MetaState(problem)
        if start is not None:
            resume(problem, state, start)
        first = state.step
        for step in meta_train(problem, state, ranks):
            told()
            if step.step in losses:
                compared += 1
                if losses[step.step] != (None if step.skipped else step.loss):
                    differing.append(step.step)
            if step.step == end.step:
                break
        found = snapshot(problem, state, None, {})
    pairs = [(found.model, end.model), (found.state, end.state)]
    tensors = [
        name
        for now, then in pairs
        for name in sorted(now.keys() | then.keys())
        if name not in now or name not in then or not torch.equal(now[name].cpu(), then[name])
    ]
    return Replay(first, end.step, compared, tuple(differing), tuple(tensors))
