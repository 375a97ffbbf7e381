"""What is exported: a run's meta-learned network, or an adapted one, with what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from binomctl.episodes import Metric
from binomctl.errors import ConfigError
from binomctl.learner.answers import shots_in_words
from binomctl.learner.exported import Exported
from binomctl.learner.kept import empty_module, is_adapted, open_adapted
from binomctl.problem.batch_norm import MEANING, norm_layers
from binomctl.problem.build import load_constants
from binomctl.reporting.intervals import mean_ci95
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.runs.evaluations import every
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.trust import require_trust
from binomctl.training.score import chosen
from binomctl.training.state import BUFFER, statistics_of
from binomctl.words import number_of


def subject(path: Path, *, checkpoint: str | None = None, trust: bool = False) -> Exported:
    """The network of a run folder, or of one that `adapt` made.

    Args:
        checkpoint: best or last of a run; None for what its protocol says.

    Raises:
        CheckpointError: neither, or a damaged one. ConfigError: a checkpoint of an adapted network.
    """
    if not is_adapted(path):
        return _of_run(path, checkpoint, trust=trust)
    if checkpoint is not None:
        raise ConfigError(f"{path} is adapted already: it has one checkpoint", "Leave it out.")
    adapted, record = open_adapted(path, device="cpu", trust=trust)
    about = {
        "kind": "classification" if adapted.classes else "regression",
        "of": f"{Path(record['run']).name}, step {record['checkpoint_step']}, adapted in"
        f" {number_of(record['steps'], 'step')}",
        "rows": [("support set", shots_in_words(record["shots"])), ("head", record["head"])],
        "norm": _norm(adapted.config, adapted.module),
    }
    return Exported(
        adapted.module, adapted.config, adapted.in_shape, adapted.out_dim, adapted.classes,
        adapted.averages, about,
    )  # fmt: skip


def _of_run(path: Path, which: str | None, *, trust: bool) -> Exported:
    directory = RunDirectory.open(path)
    config = directory.config()
    require_trust(path, config, trust=trust)
    saved, named, _ = chosen(directory, config, which)
    task = directory.facts.get("task")
    if task is None:
        raise ConfigError(
            f"{path} does not say the shape of its inputs: it is of a version before 0.2",
            "'binomctl adapt' reads it with its data set.",
        )
    in_shape, out_dim = tuple(task["in_shape"]), task["out_dim"]
    averages = statistics_of(saved)
    module = empty_module(config, in_shape, out_dim, averages=averages is not None)
    tensors = {**saved.model, **saved.part(BUFFER)}
    if averages is not None:
        tensors |= averages.at(0)
    load_constants(module, tensors)
    about = {
        "kind": task["kind"],
        "of": f"{path.name}, step {saved.step} ({named}), not adapted: it is where adaptation to a"
        " task starts",
        "rows": _scores(path, config, saved),
        "norm": _norm(config, module),
    }
    return Exported(module, config, in_shape, out_dim, (), averages is not None, about)


def _scores(run: Path, config: Config, saved: Checkpoint) -> list[tuple[str, Any]]:
    """What is known of a checkpoint's scores, after adaptation to tasks."""
    metric = getattr(registry.load("dataset", config.dataset.name), "scored_by", None)
    if not isinstance(metric, Metric):  # what only a data set that was made can say
        metric = Metric("score", "number", True)
    rows: list[tuple[str, Any]] = []
    for asked, scores in every(run, saved):
        value = mean_ci95(scores, config.evaluation.interval)
        where = f"{metric.name} of {asked.split} tasks, {number_of(asked.steps, 'step')}"
        rows.append((where, value.worded(metric.unit)))
    return rows


def _norm(config: Config, module: Any) -> str:
    return MEANING[config.adaptation.statistics] if norm_layers(module) else ""
