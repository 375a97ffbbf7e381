"""Where a training starts: a new run folder, or one that goes on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from binomctl.errors import CheckpointError
from binomctl.problem.build import build_problem, resolved
from binomctl.problem.record import Problem
from binomctl.runs import Checkpoint, Elsewhere, RunDirectory
from binomctl.runs.naming import claim
from binomctl.runs.provenance import fingerprint, provenance
from binomctl.runs.resuming import begin, changes, check_changes
from binomctl.settings.config import Config
from binomctl.settings.trust import sign, signed
from binomctl.training.recordable import captures, compiles
from binomctl.training.state import constants, statistics_of
from binomctl.training.step import check_chunks, check_ranks
from binomctl.training.tracking import trackers

DRAWN_FROM = ("dataset", "seed", "training.queries")
"""Sections and keys that other tasks are drawn by."""


@dataclass(frozen=True)
class Opened:
    """A run folder, locked, its problem and the checkpoint to go on from; notes for the person."""

    run: RunDirectory | Elsewhere
    problem: Problem
    start: Checkpoint | None
    notes: tuple[str, ...] = ()


def new(problem: Problem, out: Path | None) -> Opened:
    """A new run of a problem at `out`, or in a folder named after it.

    Raises:
        ConfigError: the folder cannot be had.
    """
    full = resolved(problem.config)
    path = out or claim(full)
    data = problem.dataset
    task = {"in_shape": list(data.in_shape), "out_dim": data.out_dim, "kind": data.kind}
    facts = {"data": fingerprint(data), "task": task}
    run = RunDirectory.create(path, full, provenance(), facts)
    sign(run.path, full)
    return Opened(run, problem, None)


def following(path: Path, config: Config, step: int | None, world: int) -> Opened:
    """A run as the ranks that do not write to it take part.

    Args:
        config: as the first rank has it, measured choices included.
        step: of the checkpoint that it goes on from; None for the start.

    Raises:
        CheckpointError: this process cannot read that checkpoint. ConfigError, DataError: as
            `checked`.
    """
    start = None if step is None else RunDirectory.open(path).checkpoints.at(step)
    return Opened(Elsewhere(path), checked(config, start, world), start)


def going_on(
    path: Path, asked: Config, allowed: Collection[str], *, fallback: bool, world: int = 1
) -> Opened:
    """A run that goes on from its newest checkpoint.

    Args:
        asked: its configuration, with what the command line says over it.
        allowed: keys in which the two may differ.
        fallback: whether an older checkpoint may stand in for a damaged one.

    Raises:
        CheckpointError: another configuration or other data than the run's, a damaged checkpoint.
        ConfigError: another process writes to it.
    """
    own = RunDirectory.open(path).config()
    found = changes(own, asked)
    check_changes(path, found, allowed)
    run = RunDirectory.resume(path, provenance())
    try:
        checkpoint, notes = begin(run, fallback=fallback)
        problem = checked(asked, checkpoint, world)
        before, data = run.facts.get("data"), fingerprint(problem.dataset)
        other_tasks = any(key.partition(".")[0] in DRAWN_FROM or key in DRAWN_FROM for key in found)
        if before not in (None, data) and not other_tasks:  # which was agreed to
            raise CheckpointError(
                f"the data are not those that {path} was started with (SHA-256 of the first tasks"
                f" was {before[:12]}...)",
                "Give it the same files, or start a new run.",
            )
        if found:
            mine = signed(path, own)
            run.amend(asked, {**run.facts, "data": data})
            if mine:
                sign(path, asked)
        run.take_back_report()  # a run that was refused keeps it
    except BaseException:
        run.close()
        raise
    return Opened(run, problem, checkpoint, tuple(notes))


def checked(
    config: Config,
    checkpoint: Checkpoint | None = None,
    world: int = 1,
    *,
    from_start: bool | None = None,
) -> Problem:
    """The problem of a configuration, with all that training would refuse refused.

    Args:
        world: how many processes share the tasks.
        from_start: as `build_problem`.

    Raises:
        ConfigError, DataError: as `build_problem` and the step.
        MissingDependencyError: of a tracker's package.
    """
    kept, frozen = None, None
    if checkpoint is not None:
        kept, frozen = constants(checkpoint), statistics_of(checkpoint)
    problem = build_problem(config, kept, frozen, from_start=from_start)
    compiles(problem)
    captures(problem)
    if config.training.task_chunk is not None:
        check_chunks(problem)
    check_ranks(problem, world)
    trackers(config)
    return problem
