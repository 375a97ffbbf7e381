"""Every run on the same test tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from binomctl.comparison.methods import flattened, natural
from binomctl.comparison.report import Scored
from binomctl.comparison.shared import SharedTasks
from binomctl.contracts import Dataset
from binomctl.episodes import Metric
from binomctl.errors import ConfigError
from binomctl.problem.build import build_problem
from binomctl.problem.datasets import build_dataset, evaluation_dataset
from binomctl.runs import RunDirectory
from binomctl.runs.evaluations import kept
from binomctl.runs.provenance import fingerprint
from binomctl.runs.resuming import damage, outcome
from binomctl.settings.config import Config
from binomctl.training.score import chosen, scores
from binomctl.training.state import constants

Opened = tuple[RunDirectory, Config]


@dataclass(frozen=True)
class Setting:
    """Runs that meet the same test tasks: a column of the paper's tables. data: the fingerprint of
    these tasks."""

    label: str
    metric: Metric
    data: str
    runs: tuple[Opened, ...]


def settings(runs: Sequence[Opened], split: str, seed: int) -> list[Setting]:
    """Runs by their test tasks, in the order of their labels: 5-way before 20-way."""
    found: dict[str, list[Opened]] = {}
    named: dict[str, tuple[str, Metric]] = {}
    fingerprints: dict[str, str] = {}
    for run, config in runs:
        dataset: Dataset = evaluation_dataset(config, build_dataset(config), seed)
        # Cells of a sweep differ in their data less often than in their estimators.
        of = f"{config.dataset.name} {dataset!r}"
        if of not in fingerprints:
            fingerprints[of] = fingerprint(dataset, [split])
        data = fingerprints[of]
        found.setdefault(data, []).append((run, config))
        named.setdefault(data, (f"{config.dataset.name}{_named(dataset)}", dataset.scored_by))
    out: list[Setting] = []
    for data, group in found.items():
        label, metric = named[data]
        again = sum(label == one.label.partition(" [")[0] for one in out)
        label = f"{label} [{again + 1}]" if again else label
        out.append(Setting(label, metric, data, tuple(group)))
    return sorted(out, key=lambda setting: natural(setting.label))


def _named(dataset: Dataset) -> str:
    """ " 5-way 1-shot", as far as a data set has such options."""
    parts = [(getattr(dataset, f"{one}s", None), one) for one in ("way", "shot")]
    return "".join(f" {value}-{one}" for value, one in parts if isinstance(value, int))


def check_same_tasks(found: Sequence[Setting]) -> None:
    """Refuse runs of several settings, with the keys in which the first two that differ do.

    Raises:
        ConfigError: they do not meet the same test tasks.
    """
    if len(found) < 2:
        return
    (run, config), (other, its) = found[0].runs[0], found[1].runs[0]
    one, two = flattened(config), flattened(its)
    keys = [
        k for k in {**one, **two}
        if k.startswith(("dataset.", "evaluation.", "training.queries"))
        and one.get(k) != two.get(k)
    ]  # fmt: skip
    if "dataset.name" in keys:
        keys = ["dataset.name"]  # of two data sets all else differs, too
    why = ", ".join(f"{k} is {one.get(k)} and {two.get(k)}" for k in keys)
    raise ConfigError(
        f"{run.path} and {other.path} do not meet the same test tasks"
        f" ({why or 'their data differ'})",
        "Compare runs of one data set, ways, shots and queries; 'binomctl report' has a column for"
        " each.",
    )


def measured(
    run: RunDirectory,
    config: Config,
    which: str | None,
    shared: SharedTasks,
    data: str,
    counted: Callable[[], None] = lambda: None,
) -> tuple[Scored, str]:
    """The scores of one run, and a note for the person.

    Args:
        data: the fingerprint of the test tasks; with scores of them in the run folder no network is
            built.
        counted: called after each task that is computed.
    """
    asked = shared.of(config)
    checkpoint, _, note = chosen(run, config, which)
    found = kept(run.path, [checkpoint], asked, data)
    if found is None:
        problem = build_problem(config, constants(checkpoint))
        found = scores(problem, run.path, [checkpoint], asked, counted=counted)
    report: Mapping[str, object] = outcome(run.path) or {}
    seconds = report.get("seconds", checkpoint.numbers.get("seconds"))
    took = float(seconds) if isinstance(seconds, int | float) else None
    return Scored(found.scores, took, checkpoint.step, asked.steps), note


def unfinished(runs: Iterable[RunDirectory]) -> list[str]:
    """A sentence for each that is not over, and for each whose report cannot be read."""
    said = []
    for run in runs:
        if wrong := damage(run.path):
            said.append(f"{wrong}; 'binomctl train --resume {run.path}' writes it again")
        elif outcome(run.path) is None:
            said.append(f"{run.path} is not finished")
    return said
