"""What `compare` and `report` share: runs to settings and methods, methods to their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import binomctl.cli.flags as flags
from binomctl.cli.counting import Counting
from binomctl.cli.loading import load_torch
from binomctl.cli.trust import import_asked

if TYPE_CHECKING:
    from binomctl.comparison.measure import Setting
    from binomctl.comparison.report import Section
    from binomctl.runs import RunDirectory
    from binomctl.settings.config import Config


@dataclass(frozen=True)
class Question:
    """What `compare` and `report` are asked; None for what the runs' own protocols say."""

    reference: Path | None = None
    tasks: int | None = None
    steps: int | None = None
    split: str = "test"
    seed: int = 0
    checkpoint: str | None = None
    device: str | None = None


def compared_runs(
    found: Sequence[tuple[RunDirectory, Config]],
    question: Question,
    *,
    trust: bool = False,
    one: bool = False,
) -> list[Section]:
    """The methods of some runs and their comparison, for each setting of test tasks.

    Runs that have saved nothing yet are among the methods and not in the comparison.

    Args:
        one: whether runs of several settings are refused.
    """
    load_torch()
    from binomctl.cli.datasets import ensure_all_prepared
    from binomctl.comparison.measure import check_same_tasks, settings
    from binomctl.comparison.methods import check_reference

    flags.check_checkpoint(question.checkpoint)
    for run, config in found:
        import_asked(run.path, config, trust)
    ensure_all_prepared(config for _, config in found)
    columns = settings(found, question.split, question.seed)
    if one:
        check_same_tasks(columns)
    check_reference([run.path for run, _ in found], question.reference)
    return [_section(column, question) for column in columns]


def _section(column: Setting, question: Question) -> Section:
    from binomctl.comparison.measure import measured, unfinished
    from binomctl.comparison.methods import methods, reference_of
    from binomctl.comparison.report import Section, compared
    from binomctl.comparison.shared import shared_tasks

    every = methods([(run.path, config) for run, config in column.runs])
    begun = [(run, config) for run, config in column.runs if run.checkpoints.steps()]
    labels = {path: m.label for m in every for path in m.runs.values()}
    ready = methods([(run.path, config) for run, config in begun])
    for method in ready:  # as they are called among all
        method.label = labels[next(iter(method.runs.values()))]
    if len(ready) < 2:
        return Section(column.label, every, None)
    base = reference_of(ready, question.reference)
    q = question
    shared, warnings = shared_tasks((c for _, c in begun), q.split, q.tasks, q.steps, q.seed)
    warnings += [f"{run.path} has saved nothing yet" for run, _ in column.runs
                 if not run.checkpoints.steps()]  # fmt: skip
    warnings += unfinished(run for run, _ in begun)
    scores = {}
    with Counting("comparing", len(begun) * shared.tasks, "tasks") as counting:
        for i, (run, config) in enumerate(begun, 1):
            counting.doing(f"{run.path} ({i} of {len(begun)})")
            if q.device is not None:
                config = config.model_copy(update={"device": q.device})
            scores[run.path], note = measured(
                run, config, q.checkpoint, shared, column.data, counting.advance
            )
            counting.reach(i * shared.tasks)
            warnings += [note] if note else []
    report = compared(ready, base, scores, column.metric, shared)
    report["warnings"] = [*warnings, *report["warnings"]]
    return Section(column.label, every, report)
