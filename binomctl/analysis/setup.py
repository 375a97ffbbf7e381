"""What an error analysis starts from: its estimators, where theta is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from binomctl.contracts import PseudoGradient
from binomctl.errors import ConfigError
from binomctl.problem.build import build_problem
from binomctl.problem.cases import Case, cases_of
from binomctl.problem.record import Problem
from binomctl.runs import RunDirectory
from binomctl.settings.config import Config
from binomctl.training.state import constants, restore, statistics_of


@dataclass(frozen=True)
class Start:
    """A problem and where its inner loops start: theta [d], the rule's m [n]; the step of the
    checkpoint they come from, if any."""

    problem: Problem
    theta: Tensor
    m: Tensor
    step: int | None


def starts(settings: Config, checkpoint: Path | None, along: Path | None) -> list[Start]:
    """Where to measure: the initial weights, a run's best checkpoint, or all it kept."""
    kept = []
    if checkpoint is not None:
        kept = [RunDirectory.open(checkpoint).checkpoints.load("best")]
    elif along is not None:
        kept = RunDirectory.open(along).checkpoints.kept()
    if kept:  # of one run: batch norm is frozen to the same in all
        problem = build_problem(settings, constants(kept[0]), statistics_of(kept[0]))
        found = ((*restore(problem, one)[:2], one.step) for one in kept)
        return [Start(problem, theta, m, step) for theta, m, step in found]
    problem = build_problem(settings)
    theta = initial(problem, settings.analysis.init)
    return [Start(problem, theta, problem.m, None)]


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
            "Leave it out, or give 0.01, say, for weights from N(0, 0.01^2).",
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
