"""A configuration made real: data set, model, engine, rule and estimator, checked to fit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from binomctl.adapt import check_pair
from binomctl.contracts import Adaptation, Dataset, Engine, Estimator, Proximal, Rule, Update
from binomctl.curvature import AutogradEngine, choose_engine
from binomctl.curvature.analytic.engine import AnalyticEngine, Convolution
from binomctl.curvature.analytic.measured import measured_convolution
from binomctl.curvature.analytic.precision import ieee_on_gpus
from binomctl.curvature.network import Network
from binomctl.episodes import EpisodeBatch, mini_batches
from binomctl.errors import ConfigError
from binomctl.flat import initial_parameters
from binomctl.machine.allocator import tune_allocator
from binomctl.machine.devices import choose_device
from binomctl.models import MODELS, build_model
from binomctl.options import IMPORT, build, has_option
from binomctl.problem.batch_norm import Statistics, measure, norm_layers, with_constants
from binomctl.problem.schedules import step_losses, step_sizes
from binomctl.settings import registry
from binomctl.settings.config import Config, Reduction

LARGE = 250_000
"""Pixels of a query set from which its activations (32 channels, 4 bytes) near 64 MB."""


@dataclass(frozen=True)
class Problem:
    """Everything a run needs, on its device.

    `theta` [d] are the initial meta-parameters, `m` [n] those of the rule; `frozen` the constants
    of batch norm under adaptation.statistics = frozen.
    """

    config: Config
    dataset: Dataset
    estimator: Estimator
    rule: Rule
    model: nn.Module
    engine: Engine
    theta: Tensor
    m: Tensor
    frozen: Statistics | None = None
    update: Update | None = None

    @property
    def device(self) -> torch.device:
        return self.theta.device

    def adaptation(
        self,
        batch: EpisodeBatch,
        m: Tensor,
        K: int | None = None,
        weights: tuple[float, ...] | None = None,
    ) -> Adaptation:
        """K steps of the rule on a batch, with weights of the outer losses; K defaults to the
        training configuration's."""
        how = self.config.adaptation
        seen = batch.mini_batches
        n = batch.y_trn.shape[1] if seen is None else seen.shape[2]
        scale = self._factor(how.loss_reduction, n)
        proximal = self.estimator.proximal if isinstance(self.estimator, Proximal) else 0.0
        steps = K or how.K
        return Adaptation(
            steps, how.alpha, self.rule, m, self.engine.layout, scale=scale, proximal=proximal,
            update=self.update, alphas=step_sizes(how, steps), clip_value=how.clip_value,
            clip_norm=how.clip_norm, weights=weights,
        )  # fmt: skip

    def query_factor(self, batch: EpisodeBatch) -> float:
        """What the reduction of the query loss makes of the meta-gradient of its mean."""
        return self._factor(self.config.training.loss_reduction, batch.y_val.shape[1])

    def _factor(self, reduction: Reduction, n: int) -> float:
        if reduction == "mean":
            return 1.0
        return float(n) if reduction == "sum" else n / getattr(self.dataset, "shots", 1)

    def batch(
        self, dataset: Dataset, split: str, indices: range, K: int, size: int | None
    ) -> EpisodeBatch:
        """Episodes of a split as one batch on the device, in mini-batches of `size` if given."""
        return self.place(self.draw(dataset, split, indices, K, size))

    def draw(
        self, dataset: Dataset, split: str, indices: range, K: int, size: int | None
    ) -> EpisodeBatch:
        """Episodes of a split as they come from the data set, in mini-batches of `size` if given;
        a pure function, which any thread may call."""
        batch = EpisodeBatch.stack(dataset.episode(split, i) for i in indices)
        if size is not None:
            seed, N = self.config.seed, batch.y_trn.shape[1]
            order = mini_batches(seed, split, indices, N, min(size, N), K)
            batch = dataclasses.replace(batch, mini_batches=order)
        return batch

    def place(self, batch: EpisodeBatch) -> EpisodeBatch:
        """A drawn batch on the device, in the run's type and with its pixel scale; uint8 pixels
        travel as such and are scaled there."""
        moved = batch.to(self.device, self.theta.dtype)
        return dataclasses.replace(
            moved, x_trn=self._pixels(moved.x_trn), x_val=self._pixels(moved.x_val)
        )

    def _pixels(self, x: Tensor) -> Tensor:
        raw = self.config.pixels == "raw"
        if x.dtype == torch.uint8:
            x = x.to(self.theta.dtype, memory_format=torch.contiguous_format)
            return x if raw else x.div_(255)
        return x * 255 if raw else x

    def draw_training(self, indices: range) -> EpisodeBatch:
        """Episodes to meta-train on, not placed yet."""
        how = self.config.adaptation
        return self.draw(self.dataset, "train", indices, how.K, how.batch)

    def training_batch(self, indices: range) -> EpisodeBatch:
        """Episodes to meta-train on."""
        return self.place(self.draw_training(indices))

    def evaluation_engine(self, statistics: Statistics | None) -> Engine:
        """The engine that evaluation adapts with: another where batch norm runs on averages."""
        if statistics is None:
            return self.engine
        return AutogradEngine(
            with_constants(self.model), self.dataset.loss, statistics=statistics.at
        )


def build_problem(config: Config) -> Problem:
    """Construct and check all parts; nothing is trained yet.

    Raises:
        ConfigError: an unknown name or option, L > K, a model the data do not fit, no such device,
            an estimator that is not derived for the rule.
        DataError: a split too small for the tasks asked for.
    """
    if config.engine.allocator == "tuned":
        tune_allocator()
    dataset = build_dataset(config)
    estimator = registry.create("estimator", config.estimator.name, config.estimator.options)
    estimator.steps(config.adaptation.K)
    rule = registry.create("rule", config.rule.name, config.rule.options)
    chosen = config.adaptation.optimizer
    update = registry.create_update(chosen.name, chosen.options)
    device, dtype = choose_device(config.device), getattr(torch, config.dtype)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # streams and events are the current device's
        ieee_on_gpus()
    model = build_model(
        config.model.name, config.model.options, dataset.in_shape, dataset.out_dim, config.seed
    ).to(device, dtype)
    if config.pixels == "raw" and len(dataset.in_shape) != 3:
        raise ConfigError("pixels = raw, but the data set has no images", key="pixels")
    if config.adaptation.statistics != "batch" and not norm_layers(model):
        raise ConfigError(
            f"adaptation.statistics = {config.adaptation.statistics}, but the model has no batch"
            " norm",
            key="adaptation.statistics",
        )
    engine: Engine = AutogradEngine(model, dataset.loss)
    m = rule.initial(engine.layout)
    theta = initial_parameters(model)
    problem = Problem(
        config, dataset, estimator, rule, model, engine, theta, m.to(theta), update=update
    )
    batch = problem.training_batch(range(1))
    if config.engine.allocator == "tuned" and batch.x_val.dim() == 5:
        tune_allocator(one_arena=batch.x_val[0, :, 0].numel() > LARGE)
    _check_runs(problem, batch)
    problem = _with_engine(problem, batch)
    for split in ("validation", "test"):  # better told now than after the training
        evaluation_dataset(config, dataset).episode(split, 0)
    _check_network(problem, batch)
    weights = step_losses(config.adaptation, config.adaptation.K, 0)
    how = problem.adaptation(batch, problem.m, weights=weights)
    check_pair(estimator, config.estimator.name, how, config.rule.name)
    return _freeze(problem) if config.adaptation.statistics == "frozen" else problem


def at_full_precision(problem: Problem) -> Problem:
    """The problem with products as precise as everything else."""
    section = problem.config.engine.model_copy(update={"precision": "full"})
    config = problem.config.model_copy(update={"engine": section})
    return rebuilt(dataclasses.replace(problem, config=config))


def rebuilt(problem: Problem) -> Problem:
    """The problem with the engine that its configuration says, after a change of that section."""
    batch = problem.training_batch(range(1))
    x, y = batch.x_trn[0], batch.y_trn[0]
    options, loss = engine_options(problem.config), problem.dataset.loss
    return dataclasses.replace(problem, engine=choose_engine(problem.model, loss, x, y, **options))


def _with_engine(problem: Problem, batch: EpisodeBatch) -> Problem:
    """The problem with its engine; how convolutions are done stands in its configuration then.

    Args:
        batch: one task.
    """
    config, model, loss = problem.config, problem.model, problem.dataset.loss
    options, x, y = engine_options(config), batch.x_trn[0], batch.y_trn[0]
    engine = choose_engine(model, loss, x, y, **options)
    measures = isinstance(engine, AnalyticEngine) and engine.convolves
    if measures and config.engine.convolution == "auto":

        def make(convolution: Convolution) -> AnalyticEngine:
            made = choose_engine(model, loss, x, y, **(options | {"convolution": convolution}))
            assert isinstance(made, AnalyticEngine)
            return made

        tasks = [0] * config.training.meta_batch  # the same one: a measurement needs no more
        sets = (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
        chosen = measured_convolution(make, problem.theta, tuple(t[tasks] for t in sets))
        section = config.engine.model_copy(update={"convolution": chosen})
        config, engine = config.model_copy(update={"engine": section}), make(chosen)
    return dataclasses.replace(problem, config=config, engine=engine)


def engine_options(config: Config) -> dict[str, Any]:
    """The part of the engine section that `choose_engine` takes."""
    return config.engine.model_dump(exclude={"compile", "capture", "allocator"})


def _check_runs(problem: Problem, batch: EpisodeBatch) -> None:
    """Run the network once before anything is written.

    Raises:
        ConfigError: what does not fit; for a user's own network its own error is named.
    """
    network = Network(problem.model)
    theta = network.layout.unflatten(network.parameters())
    try:
        with torch.no_grad():
            network(theta, batch.x_trn[0])
    except _NETWORK_ERRORS as error:
        raise _misfit(problem, batch, error) from error


def _check_network(problem: Problem, batch: EpisodeBatch) -> None:
    """Run the engine once: shapes, unreached parameters; raises ConfigError as `_check_runs`."""
    theta = problem.theta.unsqueeze(0)
    try:
        _, _, output = problem.engine.query(theta, batch.x_val[:1], batch.y_val[:1])
    except _NETWORK_ERRORS as error:
        raise _misfit(problem, batch, error) from error
    wanted = (batch.y_val.shape[1], problem.dataset.out_dim)
    # What is no tensor is the data set's metric's to read.
    if isinstance(output, Tensor) and tuple(output.shape[1:]) != wanted:
        raise ConfigError(
            f"the model's outputs have shape {list(output.shape[1:])}, the data want"
            f" {list(wanted)}",
            key=_model_key(problem),
        )


_NETWORK_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)


def _misfit(problem: Problem, batch: EpisodeBatch, error: Exception) -> ConfigError:
    return ConfigError(
        f"the model fails on the data's inputs {list(batch.x_trn[0].shape)}:"
        f" {type(error).__name__}: {error}",
        key=_model_key(problem),
    )


def _model_key(problem: Problem) -> str:
    return "model.import" if problem.config.model.name == IMPORT else "model.name"


def _freeze(problem: Problem) -> Problem:
    """The problem with batch norm's statistics fixed to those of the initial network."""
    layout, theta = problem.engine.layout, problem.theta
    batch = problem.training_batch(range(max(16, problem.config.training.meta_batch)))
    tasks = [layout.unflatten(theta)] * len(batch)
    both = torch.cat([batch.x_trn, batch.x_val], 1)
    return with_frozen(problem, measure(problem.model, [(tasks, both)]))


def with_frozen(problem: Problem, frozen: Statistics) -> Problem:
    """The problem with batch norm on these constants, a checkpoint's say."""
    model, options = with_constants(problem.model), engine_options(problem.config)
    x = problem.training_batch(range(1)).x_trn[0]
    engine = choose_engine(model, problem.dataset.loss, x, **options, statistics=frozen.at)
    return dataclasses.replace(problem, engine=engine, frozen=frozen)


def build_dataset(config: Config) -> Dataset:
    """The data set as meta-training uses it; its seed is the run's unless it was given one."""
    cls = registry.load("dataset", config.dataset.name)
    options: dict[str, Any] = dict(config.dataset.options)
    if has_option(cls, "seed"):
        options.setdefault("seed", config.seed)
    if config.training.queries is not None:
        options["queries"] = config.training.queries
    dataset: Dataset = registry.create("dataset", config.dataset.name, options)
    return dataset


def evaluation_dataset(config: Config, dataset: Dataset, seed: int | None = None) -> Dataset:
    """The data set as validation and test use it: their shots and queries, maybe another seed."""
    wanted = {
        "queries": config.evaluation.queries,
        "shots": config.evaluation.shots,
        "seed": seed,
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    for name in changes:
        if not has_option(type(dataset), name):
            raise ConfigError(f"dataset '{config.dataset.name}' has no option '{name}' to change")
    changed: Dataset = dataclasses.replace(dataset, **changes)  # type: ignore[type-var]
    return changed


def resolved(config: Config) -> Config:
    """The configuration with every plugin's and the model's defaults written out."""
    parts: dict[str, Any] = {
        "dataset": build_dataset(config),
        "estimator": registry.create("estimator", config.estimator.name, config.estimator.options),
        "rule": registry.create("rule", config.rule.name, config.rule.options),
    }
    if config.model.name in MODELS:  # a user's own network has no defaults to write out
        parts["model"] = build(MODELS[config.model.name], config.model.options, "model")
    chosen = config.adaptation.optimizer
    optimizer = registry.create("update", chosen.name, chosen.options)
    full = {"name": chosen.name, **dataclasses.asdict(optimizer)}
    adaptation = {**config.adaptation.model_dump(), "optimizer": full}
    update: dict[str, Any] = {"adaptation": adaptation} | {
        key: {"name": getattr(config, key).name, **dataclasses.asdict(part)}
        for key, part in parts.items()
    }
    return Config.model_validate({**config.model_dump(), **update})
