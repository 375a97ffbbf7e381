"""What an error analysis starts from: its configuration, its estimators, where theta is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from binomctl.adapt import check_pair
from binomctl.analysis.errors import Case
from binomctl.contracts import Adaptation, Expands, PseudoGradient
from binomctl.errors import CheckpointError, ConfigError
from binomctl.options import has_option
from binomctl.problem.build import Problem, build_problem, with_frozen
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.settings import registry
from binomctl.settings.config import Config, Places, load_config
from binomctl.settings.orders import orders
from binomctl.training.run import restore

DEFAULTS: dict[str, Any] = {
    "dataset": {"name": "sinusoid"},
    "training": {"meta_batch": 10},
    "dtype": "float64",
}
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
        return load_config(file, given, assignments, below=DEFAULTS)
    own = RunDirectory.open(run).config()
    for key in FIXED_BY_A_RUN:
        section = getattr(own, key.partition(".")[0])
        if given.get(key) not in (None, section.name):
            raise CheckpointError(
                f"{run} was trained with {key} = {section.name}, not {given[key]}",
                f"Leave the option out, or train a run with {given[key]}.",
            )
    below = own.model_dump(mode="json")
    below["training"]["meta_batch"] = DEFAULTS["training"]["meta_batch"]
    below["dtype"] = DEFAULTS["dtype"]
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


def cases_of(problem: Problem) -> list[Case]:
    """Every estimator at every L that K allows.

    Raises:
        ConfigError: an unknown name, one that estimates no meta-gradient, no L in range.
    """
    section, K = problem.config.analysis, problem.config.adaptation.K
    scalings = ["none", "paper"] if section.alpha_scaling == "both" else [section.alpha_scaling]
    out: list[Case] = []
    if problem.config.adaptation.optimizer != "sgd":
        raise ConfigError(
            "the exact meta-gradient is not known with Adam in the inner loop: a step of Adam is"
            " not linear in the gradient",
            "Use adaptation.optimizer=sgd.",
            key="adaptation.optimizer",
        )
    how = problem.adaptation(problem.training_batch(range(1)), problem.m)
    for name in dict.fromkeys(section.estimators):
        cls = registry.load("estimator", name)
        for L in orders(section.L, K, "analysis.L") if has_option(cls, "L") else [None]:
            for scaling in scalings if has_option(cls, "alpha_scaling") else [None]:
                case = _case(problem, how, name, cls, L, scaling)
                out += [case] if case else []
    if not out:
        reach = "" if section.C is None else f" and C = {section.C}"
        raise ConfigError(
            f"nothing to measure: no estimator of {', '.join(section.estimators)} has an order in"
            f" L = {section.L}{reach}",
            "The hybrid needs L <= C <= K, solvers at least one step.",
            key="analysis.L",
        )
    return out


def _case(
    problem: Problem, how: Adaptation, name: str, cls: type, L: int | None, scaling: str | None
) -> Case | None:
    section = problem.config.analysis
    options: dict[str, Any] = {} if L is None else {"L": L}
    if scaling is not None:
        options["alpha_scaling"] = scaling
    C = section.C if has_option(cls, "C") else None
    if C is not None:
        if L is not None and C < L:
            return None  # the hybrid at this C has no such order
        options["C"] = C
    if L == 0 and not issubclass(cls, Expands):
        return None  # no step of a solver is no estimate
    estimator = registry.create("estimator", name, options)
    if isinstance(estimator, PseudoGradient):
        raise ConfigError(
            f"'{name}' does not estimate the meta-gradient: {estimator.no_estimate}",
            "Leave it out; compare its accuracy instead.",
            key="analysis.estimators",
        )
    check_pair(estimator, name, how, problem.config.rule.name)  # and that its order fits K
    return Case(name, estimator, L, C, scaling)
