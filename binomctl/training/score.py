"""The score of a checkpoint on a split of its data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from binomctl.errors import NonFiniteError
from binomctl.machine.ranks import ALONE, Ranks
from binomctl.problem.batch_norm import norm_layers
from binomctl.problem.datasets import evaluation_dataset
from binomctl.problem.record import Problem
from binomctl.reporting.intervals import mean_ci95, standard_error
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.runs.evaluations import Asked, Found, keep, kept
from binomctl.runs.provenance import fingerprint
from binomctl.settings.config import Config
from binomctl.training.confidence import Confidence, calibration, classifies, confidence_of
from binomctl.training.evaluate import Trained, evaluate
from binomctl.training.head import restored


def scores(
    problem: Problem,
    run: Path,
    checkpoints: Sequence[Checkpoint],
    asked: Asked,
    ranks: Ranks = ALONE,
    trained: int | None = None,
    counted: Callable[[], None] = lambda: None,
) -> Found:
    """The score of every task that is asked for, in order: taken where it was kept, computed and
    kept where it was not. Ranks share the tasks.

    Args:
        checkpoints: one, or an ensemble.
        trained: outputs that the network was trained for, where the tasks have other classes.
        counted: called after each task that is computed.

    Raises:
        NonFiniteError: naming the tasks whose score is not finite.
    """
    dataset = evaluation_dataset(problem.config, problem.dataset, asked.seed)
    data = fingerprint(dataset, [asked.split])
    # Several processes may see different files: they compute.
    found = kept(run, checkpoints, asked, data) if ranks.world == 1 else None
    if found is not None and (found.confidence or dataset.kind != "classification"):
        return found
    outputs = trained or problem.dataset.out_dim
    ensemble = [Trained(*restored(problem, one, outputs)) for one in checkpoints]
    split, tasks, steps = asked.split, asked.tasks, asked.steps
    sure: list[Confidence] = []

    def told(output: Tensor, y: Tensor) -> None:
        if dataset.kind == "classification" and classifies(output, y):
            sure.append(confidence_of(output, y))

    hears = told if ranks.world == 1 else None  # several ranks would each hear their own tasks
    values = []
    for value in evaluate(problem, ensemble, dataset, split, tasks, steps, ranks,
                          inductive=asked.inductive, told=hears):  # fmt: skip
        values.append(value)
        counted()
    found = Found(values, [asdict(one) for one in sure] if len(sure) == len(values) else None)
    bad = [i for i, value in enumerate(values) if not math.isfinite(value)]
    if bad:
        raise NonFiniteError(
            f"the {dataset.scored_by.name} of {len(bad)} of {tasks} tasks is not finite ({split}"
            f" episodes {', '.join(map(str, bad[:5]))}{', ...' if len(bad) > 5 else ''})",
            "Adaptation diverges there: fewer --adaptation-steps, or a training with a smaller"
            " alpha.",
        )
    if ranks.first:
        keep(run, checkpoints, asked, data, found)
    return found


def score(
    problem: Problem,
    run: Path,
    checkpoints: Sequence[Checkpoint],
    asked: Asked,
    found: Found,
) -> dict[str, Any]:
    """The mean score of a checkpoint, or of an ensemble, on the tasks that are asked for.

    Args:
        found: the score of every task, and how sure it is.

    Returns:
        {"schema", "run", "split", "metric", "mean", "ci95", "interval", "standard_error", "n",
        "nll", "calibration" (null of what is no classifier),
        "ways", "shots", "queries", "adaptation_steps", "statistics", "inference", "seed",
        "checkpoint_step", "members"}; ways, shots and queries as far as the data set has such
        options; statistics are batch norm's, null without batch norm; checkpoint_step is the
        latest of the members.
    """
    dataset = evaluation_dataset(problem.config, problem.dataset, asked.seed)
    interval = problem.config.evaluation.interval
    value = mean_ci95(found.scores, interval)
    sure = None if found.confidence is None else [Confidence(**one) for one in found.confidence]
    nll = None if sure is None else mean_ci95([one.nll for one in sure], interval)
    return {
        "schema": "binomctl/eval/1",
        "run": str(run),
        "dataset": problem.config.dataset.name,
        "split": asked.split,
        "metric": dataset.scored_by.name,
        "unit": dataset.scored_by.unit,
        "mean": value.mean,
        "ci95": value.ci95,
        "interval": interval,
        "standard_error": standard_error(found.scores),
        "n": value.n,
        "nll": None if nll is None else {"mean": nll.mean, "ci95": nll.ci95},
        "calibration": None if sure is None else calibration(sure),
        **{name: getattr(dataset, name, None) for name in ("ways", "shots", "queries")},
        "adaptation_steps": asked.steps,
        "statistics": problem.config.adaptation.statistics if norm_layers(problem.model) else None,
        "inference": "inductive" if asked.inductive else "transductive",
        "seed": asked.seed,
        "checkpoint_step": max(one.step for one in checkpoints),
        "members": len(checkpoints),
    }


def chosen(run: RunDirectory, config: Config, which: str | None) -> tuple[Checkpoint, str, str]:
    """The checkpoint to score, whether it is the best or the last, and a note for the person.

    Args:
        which: "best" or "last"; None for what the run's protocol says, the last where there is no
            best one yet.
    """
    note, named = "", which or config.evaluation.checkpoint
    if which is None and named == "best" and not run.checkpoints.has_best():
        note = f"{run.path} was stopped before its first validation: its last checkpoint is taken"
        named = "last"
    return run.checkpoints.load("last" if named == "last" else "best"), named, note


def asked_of(
    config: Config, split: str, tasks: int | None, steps: int | None, seed: int | None
) -> Asked:
    """What is asked for, with a run's own protocol where nothing was said."""
    evaluation = config.evaluation
    return Asked(
        split,
        tasks or evaluation.tasks,
        steps or evaluation.steps or config.adaptation.K,
        config.seed if seed is None else seed,
    )
