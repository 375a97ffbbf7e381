"""The engine of a problem: as its configuration says, on frozen statistics, for evaluation."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from binomctl.contracts import Dataset, Engine, HasQueryLoss
from binomctl.curvature import AutogradEngine, choose_engine
from binomctl.curvature.analytic.measured import measured_convolution
from binomctl.curvature.criterion import Loss
from binomctl.curvature.outer import OuterLossEngine
from binomctl.curvature.traits import traits_of
from binomctl.episodes import EpisodeBatch
from binomctl.problem.batch_norm import Statistics, measure, with_constants
from binomctl.problem.outer import has_outer_variables
from binomctl.problem.record import Problem
from binomctl.settings.config import Config

ENOUGH = 4  # tasks for each thread, to tell which way of convolution is fastest


def engine_of(
    config: Config,
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    frozen: Statistics | None = None,
    *,
    products: bool = True,
) -> Engine:
    """The engine that a configuration says, under one loss.

    Args:
        x, y: inputs [N, ...] and targets of one task.
        frozen: the constants that batch norm normalises with; None: what the batch has.
        products: whether Hessian-vector products will be asked for.
    """
    options = config.engine.model_dump(exclude={"compile", "capture", "allocator", "deterministic"})
    return choose_engine(
        model if frozen is None else with_constants(model), loss, x, y, **options,
        statistics=None if frozen is None else frozen.at, products=products,
        allow_unused=has_outer_variables(model),
    )  # fmt: skip


def with_query_loss(
    inner: Engine,
    config: Config,
    model: nn.Module,
    dataset: Dataset,
    batch: EpisodeBatch,
    frozen: Statistics | None = None,
) -> Engine:
    """The engine, its outer loss the data set's query loss where that has one.

    Args:
        batch: one task.
    """
    if not isinstance(dataset, HasQueryLoss):
        return inner
    x, y, loss = batch.x_val[0], batch.y_val[0], dataset.query_loss
    outer = engine_of(config, model, loss, x, y, frozen, products=False)
    return OuterLossEngine(inner, outer)


def with_section(config: Config, **changes: Any) -> Config:
    """The configuration with another engine section."""
    section = config.engine.model_copy(update=changes)
    return config.model_copy(update={"engine": section})


def with_engine(problem: Problem, batch: EpisodeBatch) -> Problem:
    """The problem with its engine; how convolutions are done stands in its configuration then.

    Args:
        batch: one task.
    """
    config, loss, x, y = problem.config, problem.dataset.loss, batch.x_trn[0], batch.y_trn[0]

    def make(convolution: str) -> Any:
        return engine_of(with_section(config, convolution=convolution), problem.model, loss, x, y)

    engine = make(config.engine.convolution)
    measured = not config.engine.deterministic
    if measured and traits_of(engine).convolves and config.engine.convolution == "auto":
        B = config.training.meta_batch
        if problem.device.type == "cpu":  # more tasks than this are more of the same there
            B = min(B, ENOUGH * torch.get_num_threads())
        tasks = [0] * B  # the same one: a measurement needs no more
        sets = (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
        several = tuple(t[tasks] for t in sets)
        chosen = measured_convolution(engine, problem.theta, several)
        config = with_section(config, convolution=chosen)
        if chosen != engine.conv:
            engine = make(chosen)
    engine = with_query_loss(engine, config, problem.model, problem.dataset, batch)
    return dataclasses.replace(problem, config=config, engine=engine)


def with_schedule(problem: Problem, **changes: Any) -> Problem:
    """The problem with its engine under another engine section: memory="recompute", say."""
    return _rebuilt(problem, with_section(problem.config, **changes), problem.frozen)


def at_full_precision(problem: Problem) -> Problem:
    """The problem with products as precise as everything else."""
    return with_schedule(problem, precision="full")


def with_frozen(problem: Problem, frozen: Statistics) -> Problem:
    """The problem with batch norm on these constants, a checkpoint's say."""
    return _rebuilt(problem, problem.config, frozen)


def _rebuilt(problem: Problem, config: Config, frozen: Statistics | None) -> Problem:
    task = problem.training_batch(range(1))
    x, y = task.x_trn[0], task.y_trn[0]
    inner = engine_of(config, problem.model, problem.dataset.loss, x, y, frozen)
    engine = with_query_loss(inner, config, problem.model, problem.dataset, task, frozen)
    return dataclasses.replace(problem, config=config, engine=engine, frozen=frozen)


def freeze(problem: Problem) -> Problem:
    """The problem with batch norm's statistics fixed to those of the initial network."""
    layout, theta = problem.engine.layout, problem.theta
    batch = problem.training_batch(range(max(16, problem.config.training.meta_batch)))
    tasks = [layout.unflatten(theta)] * len(batch)
    both = torch.cat([batch.x_trn, batch.x_val], 1)
    return with_frozen(problem, measure(problem.model, [(tasks, both)]))


def evaluation_engine(problem: Problem, statistics: Statistics | None) -> Engine:
    """The engine that evaluation adapts with: another where batch norm runs on averages.

    It scores by the metric, so that a query loss of the data set's own is not asked of it.
    """
    if statistics is None:
        return problem.engine
    model, loss = with_constants(problem.model), problem.dataset.loss
    return AutogradEngine(model, loss, statistics=statistics.at)
