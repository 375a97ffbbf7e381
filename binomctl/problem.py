"""A configuration made real: data set, model, engine, rule and estimator, checked to fit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from binomctl import registry
from binomctl.config import Config
from binomctl.contracts import Adaptation, Dataset, Engine, Estimator, Rule
from binomctl.curvature import AutogradEngine
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError
from binomctl.flat import initial_parameters
from binomctl.models import MODELS, build_model
from binomctl.options import build, has_option


@dataclass(frozen=True)
class Problem:
    """Everything a run needs, on its device; `theta` [d] are the initial meta-parameters."""

    config: Config
    dataset: Dataset
    estimator: Estimator
    rule: Rule
    model: nn.Module
    engine: Engine
    theta: Tensor

    @property
    def device(self) -> torch.device:
        return self.theta.device

    def adaptation(self, K: int | None = None) -> Adaptation:
        """K steps of the rule; K defaults to the training configuration's."""
        how = self.config.adaptation
        m = self.rule.initial(self.engine.layout).to(self.theta)
        return Adaptation(K or how.K, how.alpha, self.rule, m, self.engine.layout)

    def batch(self, dataset: Dataset, split: str, indices: range) -> EpisodeBatch:
        """Episodes of a split as one batch on the device."""
        episodes = EpisodeBatch.stack(dataset.episode(split, i) for i in indices)
        return episodes.to(self.device, self.theta.dtype)


def build_problem(config: Config) -> Problem:
    """Construct and check all parts; nothing is trained yet.

    Raises:
        ConfigError: an unknown name or option, L > K, a model the data do not fit, no such device.
        DataError: a split too small for the tasks asked for.
    """
    dataset = build_dataset(config)
    estimator = registry.create("estimator", config.estimator.name, config.estimator.options)
    estimator.steps(config.adaptation.K)
    rule = registry.create("rule", config.rule.name, config.rule.options)
    device, dtype = choose_device(config.device), getattr(torch, config.dtype)
    model = build_model(
        config.model.name, config.model.options, dataset.in_shape, dataset.out_dim, config.seed
    ).to(device, dtype)
    engine = AutogradEngine(model, dataset.loss, memory=config.engine.memory)
    for split in ("train", "validation"):
        dataset.episode(split, 0)
    evaluation_dataset(config, dataset).episode("validation", 0)
    theta = initial_parameters(model)
    return Problem(config, dataset, estimator, rule, model, engine, theta)


def build_dataset(config: Config) -> Dataset:
    """The data set of a configuration; its seed is the run's unless it was given one."""
    cls = registry.load("dataset", config.dataset.name)
    options: dict[str, Any] = dict(config.dataset.options)
    if has_option(cls, "seed"):
        options.setdefault("seed", config.seed)
    dataset: Dataset = registry.create("dataset", config.dataset.name, options)
    return dataset


def evaluation_dataset(config: Config, dataset: Dataset, seed: int | None = None) -> Dataset:
    """The data set as validation and test use it: their number of queries, maybe another seed."""
    changes: dict[str, Any] = {}
    if config.evaluation.queries is not None:
        changes["queries"] = config.evaluation.queries
    if seed is not None:
        changes["seed"] = seed
    for name in changes:
        if not has_option(type(dataset), name):
            raise ConfigError(f"dataset '{config.dataset.name}' has no option '{name}' to change")
    changed: Dataset = dataclasses.replace(dataset, **changes)  # type: ignore[type-var]
    return changed


def resolved(problem: Problem) -> Config:
    """The configuration with every plugin's and the model's defaults written out."""
    config = problem.config
    model = build(MODELS[config.model.name], config.model.options, "model")
    parts = {
        "dataset": problem.dataset,
        "estimator": problem.estimator,
        "rule": problem.rule,
        "model": model,
    }
    update = {
        key: {"name": getattr(config, key).name, **dataclasses.asdict(part)}  # type: ignore[call-overload]
        for key, part in parts.items()
    }
    return Config.model_validate({**config.model_dump(), **update})


def choose_device(name: str) -> torch.device:
    """auto (the GPU where there is one), cpu, cuda or cuda:N.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"unknown device '{name}'", "Valid: auto, cpu, cuda, cuda:N.", key="device"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"device '{name}' is not supported", "Valid: auto, cpu, cuda, cuda:N.", key="device"
        )
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(
            f"device '{name}' is not available: torch {torch.__version__} sees {count} GPUs",
            "Use --device cpu, or --device auto to take a GPU where there is one.",
            key="device",
        )
    return device
