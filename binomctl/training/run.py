"""A training run: the meta-training loop with validation, checkpoints, metrics and a report."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from binomctl.episodes import Metric
from binomctl.errors import CheckpointError, Interrupted, NonFiniteError
from binomctl.machine.signals import StopRequest
from binomctl.problem.batch_norm import Statistics, norm_layers
from binomctl.problem.datasets import evaluation_dataset
from binomctl.problem.record import Problem
from binomctl.reporting.intervals import MeanCI, mean_ci95, standard_error
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.training.evaluate import evaluate
from binomctl.training.loop import MetaState, Step, meta_train


class Observer(Protocol):
    """Whoever wants to be told how a run is going; the CLI's progress bar is one."""

    def on_step(self, step: Step, seconds: float) -> None: ...
    def on_validation(self, step: int, value: MeanCI, best: bool) -> None: ...


def train(problem: Problem, run: RunDirectory, observer: Observer) -> dict[str, Any]:
    """Meta-train, validate and save until the configured number of steps.

    Returns:
        The report, also written to report.json: {"schema", "run", "steps", "seconds",
        "best": {"step", "metric", "value"}}.

    Raises:
        Interrupted: a signal came; the last step is saved.
        NonFiniteError: see `meta_train`; the last checkpoint is intact.
    """
    settings, scored_by = problem.config.training, problem.dataset.scored_by
    state, best, metric = MetaState(problem), _Best(scored_by), scored_by.name
    start = time.perf_counter()
    with StopRequest() as stop:
        for step in meta_train(problem, state):
            seconds = time.perf_counter() - start
            observer.on_step(step, seconds)
            last = step.step == settings.steps
            validating = last or step.step % settings.validate_every == 0
            record = {
                "step": step.step,
                "train_loss": step.loss,
                f"train_{metric}": step.metric,
                "seconds": round(seconds, 3),
                **step.diagnostics,
            }
            if validating:
                value = validate(problem, state)
                improved = best.offer(step.step, value.mean)
                record |= {
                    f"validation_{metric}": value.mean,
                    "validation_ci95": value.ci95,
                    "validation_tasks": value.n,
                }
                run.save(
                    _checkpoint(problem, state, value.mean),
                    best=improved,
                    keep_all=settings.keep_all,
                )
                observer.on_validation(step.step, value, improved)
            if validating or step.step % settings.log_every == 0:
                run.log(record)
            if stop.signal_number is not None and not last:
                if not validating:
                    run.save(
                        _checkpoint(problem, state, None), best=False, keep_all=settings.keep_all
                    )
                raise Interrupted(
                    f"stopped by signal {stop.signal_number} after step {step.step}; it is saved in"
                    f" {run.path}",
                    stop.signal_number,
                )
    report = {
        "schema": "binomctl/train/1",
        "run": str(run.path),
        "steps": state.step,
        "seconds": round(time.perf_counter() - start, 3),
        "best": {"step": best.step, "metric": metric, "value": best.value},
    }
    run.report(report)
    if best.value is None:
        raise NonFiniteError(
            f"no validation gave a finite {metric}; the run is saved in {run.path}",
            "Lower adaptation.alpha or evaluation.steps.",
        )
    return report


def validate(problem: Problem, state: MetaState) -> MeanCI:
    """The metric over the validation tasks, adapted and scored as at test."""
    config = problem.config
    dataset = evaluation_dataset(config, problem.dataset)
    steps = config.evaluation.steps or config.adaptation.K
    tasks = config.training.validation_tasks
    theta, m = state.theta.detach(), state.m.detach()
    values = evaluate(problem, theta, m, dataset, "validation", tasks, steps, state.statistics)
    return mean_ci95(list(values))


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


MEMORY = "estimator."
"""What an estimator's state begins with in a checkpoint."""


def restore(problem: Problem, checkpoint: Checkpoint) -> tuple[Tensor, Tensor, Statistics | None]:
    """theta [d], the rule's m [n] and batch norm's averages out of a checkpoint."""
    layout = problem.engine.layout
    found = {name: tuple(t.shape) for name, t in checkpoint.parameters.items()}
    expected = dict(zip(layout.names, map(tuple, layout.shapes), strict=True))
    kept = {n: t for n, t in checkpoint.state.items() if not n.startswith(MEMORY)}
    state = {name: t.to(problem.theta) for name, t in kept.items()}
    m = state.pop("rule.m", problem.m.new_zeros(0))
    found["rule.m"], expected["rule.m"] = tuple(m.shape), tuple(problem.m.shape)
    if found != expected:
        differing = sorted(n for n in found | expected if found.get(n) != expected.get(n))
        raise CheckpointError(
            f"the checkpoint's parameters are not those of the run's model: {', '.join(differing)}",
            "The run's config.yaml or checkpoint was changed after training.",
        )
    theta = layout.flatten(checkpoint.parameters).to(problem.theta)
    return theta, m, Statistics.of_tensors(state) if state else None


def _checkpoint(problem: Problem, state: MetaState, validation: float | None) -> Checkpoint:
    parameters = problem.engine.layout.unflatten(state.theta.detach())
    extra = {"rule.m": state.m.detach()} if state.m.numel() else {}
    extra |= state.statistics.tensors() if state.statistics else {}
    extra |= {f"{MEMORY}{name}": t.detach() for name, t in (state.memory or {}).items()}
    return Checkpoint(state.step, parameters, validation, extra)


class _Best:
    """The best validation so far, by the metric's direction; never a non-finite one."""

    def __init__(self, metric: Metric) -> None:
        self._sign = 1 if metric.higher_is_better else -1
        self.step: int | None = None
        self.value: float | None = None

    def offer(self, step: int, value: float) -> bool:
        better = math.isfinite(value) and (
            self.value is None or self._sign * value > self._sign * self.value
        )
        if better:
            self.step, self.value = step, value
        return better
