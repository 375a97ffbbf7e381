"""Which meta-steps are compiled by torch, and which are recorded as a CUDA graph."""

from __future__ import annotations

import shutil

from binomctl.contracts import Diagnosing, Draws, Remembers, Starts
from binomctl.curvature.traits import traits_of
from binomctl.errors import ConfigError
from binomctl.problem.record import Problem

PAYS_FROM = 20_000  # meta-steps: at 3 ms saved by each, twice what compiling takes


def captures(problem: Problem) -> bool:
    """Whether the meta-step is recorded as a CUDA graph.

    Raises:
        ConfigError: engine.capture = on, where it cannot be.
    """
    how, engine = problem.config.engine.capture, traits_of(problem.engine)
    if how == "off":
        return False
    obstacle = ""
    if problem.device.type != "cuda":
        obstacle = f"there are no CUDA graphs on {problem.device.type}"
    elif not engine.steps_alone:
        obstacle = "only the layer algebra (engine.kind = analytic) can be recorded"
    elif not engine.closed_form or problem.m.numel():
        obstacle = "a loss or a rule of its own needs autograd"
    elif changes := _changes(problem):
        obstacle = f"{changes}recorded"
    if obstacle and how == "on":
        raise ConfigError(f"engine.capture = on: {obstacle}", "Use auto.", key="engine.capture")
    return not obstacle


def compiles(problem: Problem) -> str:
    """Why a problem's step is compiled, in words; "" where it is not.

    Raises:
        ConfigError: engine.compile = on, where it cannot be.
    """
    how, steps = problem.config.engine.compile, problem.config.training.steps
    obstacle = _obstacle(problem)
    if how == "on" and obstacle:
        raise ConfigError(f"engine.compile = on: {obstacle}", "Use auto.", key="engine.compile")
    if obstacle or how == "off" or (how == "auto" and steps < PAYS_FROM):
        return ""
    reason = f"{steps:,} meta-steps pay for it" if how == "auto" else "as asked"
    return f"the first meta-step compiles the others ({reason}); it takes 15 to 40 s"


def _obstacle(problem: Problem) -> str:
    engine = traits_of(problem.engine)
    if not engine.steps_alone:
        return "only the layer algebra (engine.kind = analytic) can be compiled"
    if engine.convolves:
        return "convolutions and batch norm run in kernels that are compiled already"
    if engine.beside is not None:
        return "linear layers and ReLUs run in kernels that are compiled already"
    if changes := _changes(problem):
        return f"{changes}compiled"
    if problem.device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "there is no C++ compiler"
    return ""


def _changes(problem: Problem) -> str:
    """Why one recording or compilation does not serve all steps; "" where it does."""
    if problem.config.training.task_chunk is not None:
        return "a meta-batch in chunks is not "
    if isinstance(problem.estimator, Diagnosing) or problem.config.adaptation.batch is not None:
        return "an estimator that diagnoses itself, or mini-batches, are not "
    if isinstance(problem.estimator, Remembers):
        return "an estimator with a state is not "
    if problem.stages:
        return "an estimator that gives way to another is not "
    if isinstance(problem.rule, Draws):
        return "a rule that draws for every task is not "
    if isinstance(problem.rule, Starts):
        return "tasks that start elsewhere than at theta are not "
    if problem.config.adaptation.step_losses == "annealed":
        return "outer losses whose weights change from step to step are not "
    if not problem.inner_loop(problem.m).linear:
        return "inner steps that are derived by autograd are not "
    return ""
