"""A training run: the meta-training loop with validation, checkpoints, metrics and a report."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from binomctl.curvature.traits import threads_for
from binomctl.errors import BinomctlError, Interrupted
from binomctl.machine.memory import out_of_memory_in_words
from binomctl.machine.ranks import ALONE, Ranks
from binomctl.machine.signals import StopNow, StopRequest
from binomctl.problem.batch_norm import norm_layers
from binomctl.problem.datasets import evaluation_dataset
from binomctl.problem.record import Problem
from binomctl.reporting.intervals import MeanCI, mean_ci95
from binomctl.runs import Checkpoint, Written
from binomctl.runs.resuming import check_scored
from binomctl.training.best import Best
from binomctl.training.evaluate import Trained, evaluate
from binomctl.training.loop import LESS_MEMORY, Step, meta_train
from binomctl.training.observer import Observer
from binomctl.training.outer import means
from binomctl.training.recordable import compiles
from binomctl.training.state import MetaState, own_generators, resume, snapshot
from binomctl.training.tracking import tracked

TIME_IS_UP = 1000  # among the numbers of signals


def train(
    problem: Problem,
    run: Written,
    observer: Observer,
    *,
    start: Checkpoint | None = None,
    deadline: float | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Meta-train, validate and save until the configured number of steps.

    All ranks make the same steps, decisions and ends; one of them has a run that writes.

    Args:
        start: a checkpoint of this run to go on from, to the last bit as if it had never stopped.
        deadline: time.monotonic() by which to have stopped and saved.

    Returns:
        The report, also written to report.json: {"schema", "run", "steps", "seconds", "skipped",
        "stopped_early", "estimator", "statistics", "best": {"step", "metric", "unit", "value"}};
        statistics are batch norm's, null without batch norm.

    Raises:
        Interrupted: a signal came, or the deadline; the last step is saved.
        NonFiniteError, ResourceError: the last step that could be made is saved.
    """
    with tracked(run, problem.config, start.step if start else 0) as told, own_generators(problem):
        training = _Training(problem, told, observer, start, deadline, ranks)
        memory = out_of_memory_in_words(problem.device, LESS_MEMORY)
        with training.saved_whatever_happens(), ranks.alike(), memory:
            training.loop()
        with ranks.alike():
            return training.report()


class _Training:
    """One stretch of a run."""

    def __init__(
        self,
        problem: Problem,
        run: Written,
        observer: Observer,
        start: Checkpoint | None,
        deadline: float | None,
        ranks: Ranks,
    ) -> None:
        self.problem, self.run, self.observer, self.ranks = problem, run, observer, ranks
        self.settings, self.metric = problem.config.training, problem.dataset.scored_by
        self.state, self.best = MetaState(problem), Best(self.metric)
        self.before = 0.0
        if start is not None:
            resume(problem, self.state, start)
            self.best.resume(start.numbers["best"])
            self.before = start.numbers["seconds"]
        for tensor in (self.state.theta, self.state.m):
            ranks.same(tensor.detach())  # other machines may draw another network from a seed
        self.saved: int | None = None if start is None else start.step
        self.began = time.perf_counter()
        self.deadline = deadline
        self.longest = 0.0

    @property
    def seconds(self) -> float:
        """Of this run, all its stretches together."""
        return self.before + time.perf_counter() - self.began

    def loop(self) -> None:
        """Steps until the last, a stop or a deadline."""
        # Between steps, too: torch's threads would be in the way of the next step's kernels.
        alone = threads_for(self.problem.engine, self.settings.meta_batch)
        with StopRequest() as stop, alone:
            # Nothing of a step that is being compiled needs to be finished; but of several ranks
            # none may leave while another waits for it.
            stop.at_once = self.ranks.world == 1 and bool(compiles(self.problem))
            try:
                if self._spent():
                    return
                before = time.monotonic()
                for step in meta_train(self.problem, self.state, self.ranks):
                    stop.at_once = False
                    self._after(step)
                    self.longest = max(self.longest, time.monotonic() - before)
                    before = time.monotonic()
                    if self._spent():
                        self._save_if_new()  # patience ends between two checkpoints, too
                        return
                    late = self.deadline is not None and before + 2 * self.longest > self.deadline
                    why = self.ranks.most(stop.signal_number or (TIME_IS_UP if late else 0))
                    if why:
                        self._stopped(None if why == TIME_IS_UP else why)
            except StopNow:
                self._stopped(stop.signal_number)

    def _spent(self) -> bool:
        return self.state.step >= self.settings.steps or self.best.exhausted(self.settings.patience)

    def _after(self, step: Step) -> None:
        """Tell, validate, save and log as the configuration says."""
        settings, name = self.settings, self.metric.name
        seconds = self.seconds
        self.observer.on_step(step, seconds)
        last = step.step == settings.steps
        validating = last or step.step % settings.validate_every == 0
        record: dict[str, Any] = {
            "step": step.step,
            "train_loss": step.loss,
            f"train_{name}": step.metric,
            "seconds": round(seconds, 3),
            **step.diagnostics,
        }
        if step.skipped:
            record["skipped"] = step.skipped
        improved, value = False, None
        if validating:
            value = validate(self.problem, self.state, self.ranks)
            improved = self.best.offer(step.step, value.mean)
            record |= {
                f"validation_{name}": value.mean,
                "validation_ci95": value.ci95,
                "validation_tasks": value.n,
            } | means(self.problem, self.state.theta)
        # The line before the checkpoint: what is resumed from there has it.
        if validating or step.skipped or step.step % settings.log_every == 0:
            self.run.log(record)
        every = settings.checkpoint_every
        if last or improved or (step.step % every == 0 if every else validating):
            # NaN is no number of JSON; metrics.jsonl says null too.
            finite = value is not None and math.isfinite(value.mean)
            self._save(value.mean if value is not None and finite else None, improved)
        if value is not None:
            self.observer.on_validation(step.step, value, improved)

    def _save(self, validation: float | None, best: bool) -> None:
        numbers = {"best": self.best.numbers(), "seconds": round(self.seconds, 3)}
        self.run.checkpoints.save(
            snapshot(self.problem, self.state, validation, numbers),
            best=best,
            last=self.settings.keep_last,
            every=self.settings.keep_every or 0,
        )
        self.saved = self.state.step

    def _save_if_new(self) -> None:
        if self.state.step and self.saved != self.state.step:
            self._save(None, best=False)

    def _stopped(self, signal_number: int | None) -> None:
        self._save_if_new()
        why = "its time limit" if signal_number is None else f"signal {signal_number}"
        where = f"it is saved in {self.run.path}" if self.saved else "nothing was there to save"
        raise Interrupted(
            f"stopped by {why} after step {self.state.step}; {where}",
            15 if signal_number is None else signal_number,
            self.next_step(),
        )

    @contextmanager
    def saved_whatever_happens(self) -> Iterator[None]:
        """Before an error of ours goes on its way, keep what was reached and say what there is."""
        try:
            yield
        except Interrupted:
            raise
        except BinomctlError as error:
            with suppress(BinomctlError):  # the same disk, or the same numbers
                self._save_if_new()
            error.hint = f"{error.hint} {self.next_step()}".strip()
            raise

    def next_step(self) -> str:
        """How to go on, in words."""
        if not self.saved:
            return "No checkpoint was saved."
        return f"Step {self.saved} is saved: binomctl train --resume {self.run.path} goes on."

    def report(self) -> dict[str, Any]:
        best, state, config = self.best, self.state, self.problem.config
        estimator: Any = self.problem.estimator
        report = {
            "schema": "binomctl/train/1",
            "run": str(self.run.path),
            "steps": state.step,
            "seconds": round(self.seconds, 3),
            "skipped": state.skipped,
            "stopped_early": state.step < self.settings.steps,
            "estimator": {"name": config.estimator.name, **asdict(estimator)},
            "statistics": config.adaptation.statistics if norm_layers(self.problem.model) else None,
            "best": {
                "step": best.step,
                "metric": self.metric.name,
                "unit": self.metric.unit,
                "value": best.value,
            },
        }
        self.run.report(report)
        check_scored(report)
        return report


def validate(problem: Problem, state: MetaState, ranks: Ranks = ALONE) -> MeanCI:
    """The metric over the validation tasks, adapted and scored as at test."""
    config = problem.config
    dataset = evaluation_dataset(config, problem.dataset)
    steps = config.evaluation.steps or config.adaptation.K
    tasks = config.training.validation_tasks
    now = Trained(state.theta.detach(), state.m.detach(), state.statistics)
    values = evaluate(problem, [now], dataset, "validation", tasks, steps, ranks)
    return mean_ci95(list(values))
