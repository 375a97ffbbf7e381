"""What an error analysis starts from: its configuration, its estimators, where theta is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from binomctl.contracts import PseudoGradient
from binomctl.errors import CheckpointError, ConfigError
from binomctl.problem.build import build_problem
from binomctl.problem.cases import Case, cases_of
from binomctl.problem.engines import with_frozen
from binomctl.problem.record import Problem
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.settings.config import ERROR_ANALYSIS, Config
from binomctl.settings.layers import Places, load_config
from binomctl.training.run import restore

FIXED_BY_A_RUN = ("dataset.name", "model.name", "rule.name")


@dataclass(frozen=True)
class Start:
    """A problem and where its inner loops start: theta [d], the rule's m [n]; the step of the
    checkpoint they come from, if any."""

    problem: Problem
    theta: Tensor
    m: Tensor
    step: int | None


def settings_of(
    file: Path | None, given: dict[str, Any], assignments: list[str] | None, run: Path | None
) -> tuple[Config, Places]:
    """The configuration: the analysis' defaults, a file or a run, the command line.

    Raises:
        CheckpointError: the command line asks for another data set, model or rule than the run's.
        ConfigError: as `load_config`.
    """
    if run is None:
        return load_config(file, given, assignments, below=ERROR_ANALYSIS)
    own = RunDirectory.open(run).config()
    for key in FIXED_BY_A_RUN:
        section = getattr(own, key.partition(".")[0])
        if given.get(key) not in (None, section.name):
            raise CheckpointError(
                f"{run} was trained with {key} = {section.name}, not {given[key]}",
                f"Leave the option out, or train a run with {given[key]}.",
            )
    below = own.model_dump(mode="json")
    below["training"]["meta_batch"] = ERROR_ANALYSIS["training"]["meta_batch"]
    below["dtype"] = ERROR_ANALYSIS["dtype"]
    settings, places = load_config(file, given, assignments, below=below)
    for section in ("dataset", "model", "rule"):
        asked, trained = getattr(settings, section), getattr(own, section)
        same = asked.name == trained.name if section == "dataset" else asked == trained
        if not same:
            raise CheckpointError(
                f"{run} was trained with {section} {trained.model_dump()}, not"
                f" {asked.model_dump()}",
                f"Leave {section} out, or train a run with it.",
            )
    return settings, places


def starts(settings: Config, checkpoint: Path | None, along: Path | None) -> list[Start]:
    """Where to measure: the initial weights, a run's best checkpoint, or all it kept."""
    problem = build_problem(settings)
    if checkpoint is not None:
        return [_start(problem, RunDirectory.open(checkpoint).load("best"))]
    if along is not None:
        return [_start(problem, c) for c in RunDirectory.open(along).kept()]
    theta = initial(problem, settings.analysis.init)
    return [Start(problem, theta, problem.m, None)]


def _start(problem: Problem, checkpoint: Checkpoint) -> Start:
    theta, m, statistics = restore(problem, checkpoint)
    if problem.frozen is not None and statistics is not None:
        problem = with_frozen(problem, statistics)
    return Start(problem, theta, m, checkpoint.step)


def initial(problem: Problem, how: str) -> Tensor:
    """theta [d]: the model's own initial weights, or N(0, std^2) for "0.01", say."""
    if how == "model":
        return problem.theta
    try:
        std = float(how)
    except ValueError:
        std = -1.0
    if not 0 < std < float("inf"):
        raise ConfigError(
            f"init = '{how}' is neither 'model' nor a positive standard deviation",
            key="analysis.init",
        )
    random = torch.Generator().manual_seed(problem.config.seed)
    return std * torch.randn(len(problem.theta), generator=random, dtype=torch.float64).to(
        problem.theta
    )


def measurable(problem: Problem) -> list[Case]:
    """The cases of the analysis section; each estimates the meta-gradient.

    Raises:
        ConfigError: as `cases_of`; one that estimates no meta-gradient.
    """
    cases = cases_of(problem, "analysis")
    for case in cases:
        if isinstance(case.estimator, PseudoGradient):
            raise ConfigError(
                f"'{case.name}' does not estimate the meta-gradient: {case.estimator.no_estimate}",
                "Leave it out; compare its accuracy instead.",
                key="analysis.estimators",
            )
    return cases
