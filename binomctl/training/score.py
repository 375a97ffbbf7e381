"""The score of a checkpoint on a split of its data set."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from binomctl.errors import NonFiniteError
from binomctl.problem.batch_norm import norm_layers
from binomctl.problem.datasets import evaluation_dataset
from binomctl.problem.record import Problem
from binomctl.reporting.intervals import mean_ci95, standard_error
from binomctl.runs import Checkpoint
from binomctl.training.evaluate import evaluate
from binomctl.training.state import restore


def score(
    problem: Problem,
    run: Path,
    checkpoint: Checkpoint,
    split: str,
    tasks: int,
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """Score a checkpoint on the episodes 0 .. tasks - 1 of a split.

    Returns:
        {"schema", "run", "split", "metric", "mean", "ci95", "interval", "standard_error", "n",
        "ways", "shots", "queries", "adaptation_steps", "statistics", "seed", "checkpoint_step"};
        ways, shots and queries as far as the data set has such options; statistics are batch
        norm's, null without batch norm.
    """
    dataset = evaluation_dataset(problem.config, problem.dataset, seed)
    theta, m, statistics = restore(problem, checkpoint)
    scores = list(evaluate(problem, theta, m, dataset, split, tasks, steps, statistics))
    bad = [i for i, score in enumerate(scores) if not math.isfinite(score)]
    if bad:
        raise NonFiniteError(
            f"the {dataset.scored_by.name} of {len(bad)} of {tasks} tasks is not finite ({split}"
            f" episodes {', '.join(map(str, bad[:5]))}{', ...' if len(bad) > 5 else ''})",
            "Adaptation diverges there: take fewer --steps, or train with a smaller alpha.",
        )
    interval = problem.config.evaluation.interval
    value = mean_ci95(scores, interval)
    return {
        "schema": "binomctl/eval/1",
        "run": str(run),
        "split": split,
        "metric": dataset.scored_by.name,
        "unit": dataset.scored_by.unit,
        "mean": value.mean,
        "ci95": value.ci95,
        "interval": interval,
        "standard_error": standard_error(scores),
        "n": value.n,
        **{name: getattr(dataset, name, None) for name in ("ways", "shots", "queries")},
        "adaptation_steps": steps,
        "statistics": problem.config.adaptation.statistics if norm_layers(problem.model) else None,
        "seed": seed,
        "checkpoint_step": checkpoint.step,
    }
