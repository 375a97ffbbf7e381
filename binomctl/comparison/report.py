"""The comparison of methods from the scores of their runs: numbers, intervals, words."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binomctl.comparison.methods import Method
from binomctl.comparison.paired import Paired, holm, paired, verdict
from binomctl.comparison.shared import SharedTasks
from binomctl.episodes import Metric
from binomctl.errors import ConfigError
from binomctl.reporting.intervals import mean_ci95, standard_error

SCHEMA = "binomctl/compare/1"
SEEDS = 3
"""From so many seeds on a difference is judged across them: what it says holds for the next
seed too. With fewer it is judged across test tasks and holds for these trained networks."""


@dataclass(frozen=True)
class Scored:
    """A run's scores, one a test task, what its training took, and the adaptation steps before the
    scores."""

    scores: list[float]
    seconds: float | None
    step: int
    adaptation_steps: int


@dataclass(frozen=True)
class Section:
    """A setting's methods and their comparison, as `compared` makes it; None where there is nothing
    to compare."""

    label: str
    methods: Sequence[Method]
    report: dict[str, Any] | None


def compared(
    found: Sequence[Method], reference: Method, scores: Mapping[Path, Scored], metric: Metric,
    shared: SharedTasks,
) -> dict[str, Any]:  # fmt: skip
    """Every method against the reference, in pairs of one seed and one test task.

    Returns:
        {"schema", "reference", "metric", "unit", "n", "seeds", "split", "seed", "interval_over",
        "pairs": [{"run", "runs", "label", "estimator", "L", "adaptation_steps", "mean",
        "ci95_of_mean", "standard_error", "n", "difference", "ci95", "bootstrap95", "over", "p",
        "p_holm", "needed", "seconds", "seconds_ratio", "effect_per_second", "verdict"}],
        "warnings"}; differences of the reference are null.
    """
    warnings: list[str] = []
    raw = [None if m is reference else _differences(m, reference, scores, warnings) for m in found]
    corrected = iter(holm([d.p for d, _ in filter(None, raw)]))
    pairs = []
    for method, pair in zip(found, raw, strict=True):
        row = _summary(method, reference, scores)
        if pair is None:
            row |= dict.fromkeys(
                ("difference", "ci95", "bootstrap95", "over", "p", "p_holm", "needed",
                 "effect_per_second"), None,
            ) | {"verdict": "the reference"}  # fmt: skip
        else:
            d, over = pair
            p = next(corrected)
            slower = _seconds(method, scores), _seconds(reference, scores)
            gap = None if None in slower else slower[0] - slower[1]  # type: ignore[operator]
            row |= {
                "difference": d.mean,
                "ci95": [d.mean - d.ci95, d.mean + d.ci95] if d.n > 1 else None,
                "bootstrap95": d.bootstrap and list(d.bootstrap), "over": over, "pairs": d.n,
                "p": d.p, "p_holm": p, "needed": d.needed,
                "effect_per_second": d.mean / gap if gap else None,
                "verdict": verdict(d, p, metric, over),
            }  # fmt: skip
        pairs.append(row)
    return {
        "schema": SCHEMA, "reference": reference.label, "metric": metric.name,
        "unit": metric.unit, "higher_is_better": metric.higher_is_better, "n": shared.tasks,
        "seeds": sorted(set().union(*(m.runs for m in found))), "split": shared.split,
        "seed": shared.seed, "pairs": pairs, "warnings": warnings,
    }  # fmt: skip


def _differences(
    method: Method, reference: Method, scores: Mapping[Path, Scored], warnings: list[str]
) -> tuple[Paired, str]:
    """Paired differences across seeds, or across tasks where there are fewer than SEEDS."""
    seeds = sorted(set(method.runs) & set(reference.runs))
    if not seeds:
        raise ConfigError(
            f"{method.label} and {reference.label} have no seed in common:"
            f" {sorted(method.runs)} and {sorted(reference.runs)}",
            "Train both with the same seeds, or choose another --reference.",
            key="reference",
        )
    left = sorted(set(method.runs) ^ set(reference.runs))
    if left:
        warnings.append(f"{method.label}: seeds {left} have no partner and are left out")
    gaps = [
        [a - b for a, b in zip(scores[method.runs[s]].scores, scores[reference.runs[s]].scores,
                               strict=True)]
        for s in seeds
    ]  # fmt: skip
    if len(seeds) >= SEEDS:
        return paired([statistics.fmean(gap) for gap in gaps]), "seeds"
    return paired([statistics.fmean(of_task) for of_task in zip(*gaps, strict=True)]), "tasks"


def _summary(method: Method, reference: Method, scores: Mapping[Path, Scored]) -> dict[str, Any]:
    runs = [scores[path] for path in method.runs.values()]
    by_task = [statistics.fmean(of_task) for of_task in zip(*(r.scores for r in runs), strict=True)]
    by_seed = [statistics.fmean(r.scores) for r in runs]
    over_seeds = len(runs) >= SEEDS
    values = by_seed if over_seeds else by_task
    value, mine, its = mean_ci95(values), _seconds(method, scores), _seconds(reference, scores)
    chosen = method.config.estimator
    return {
        "run": str(next(iter(method.runs.values()))),
        "runs": [str(path) for path in method.runs.values()],
        "label": method.label, "estimator": chosen.name, "L": chosen.options.get("L"),
        "adaptation_steps": runs[0].adaptation_steps,
        "mean": value.mean, "ci95_of_mean": value.ci95, "mean_over": "seeds" if over_seeds
        else "tasks", "mean_n": value.n, "standard_error": standard_error(by_task),
        "checkpoint_steps": [r.step for r in runs],
        "seconds": mine, "seconds_ratio": mine / its if mine and its else None,
    }  # fmt: skip


def _seconds(method: Method, scores: Mapping[Path, Scored]) -> float | None:
    """Of training, the mean over the seeds."""
    found = [scores[path].seconds for path in method.runs.values()]
    known = [s for s in found if s is not None]
    return statistics.fmean(known) if len(known) == len(found) else None
