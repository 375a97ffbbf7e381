"""Data sets as a configuration says: for meta-training, for validation and test."""

from __future__ import annotations

import dataclasses
from typing import Any

from binomctl.contracts import Dataset
from binomctl.errors import ConfigError
from binomctl.options import has_option
from binomctl.settings import registry
from binomctl.settings.config import Config


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
