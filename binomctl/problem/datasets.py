"""Data sets as a configuration says: for meta-training, for validation and test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from binomctl.contracts import Dataset
from binomctl.errors import ConfigError
from binomctl.options import has_option
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.section import Choice


def build_dataset(config: Config) -> Dataset:
    """The data set as meta-training uses it; its seed is the run's unless it was given one."""
    return _built(config, config.dataset)


def _built(config: Config, chosen: Choice) -> Dataset:
    cls = registry.load("dataset", chosen.name)
    options: dict[str, Any] = dict(chosen.options)
    members = getattr(cls, "composed_of", None)
    if members is not None:
        given = options.get(members, default_of(cls, members))
        if isinstance(given, list):
            options[members] = [_built(config, choice_of(one)) for one in given]
        elif isinstance(given, str | Mapping):
            options[members] = _built(config, choice_of(given))
    if has_option(cls, "seed"):
        options.setdefault("seed", config.seed)
    if config.training.queries is not None and chosen is config.dataset:
        options["queries"] = config.training.queries
    dataset: Dataset = registry.create("dataset", chosen.name, options)
    return dataset


def default_of(cls: type, name: str) -> Any:
    """An option's default."""
    return next((f.default for f in dataclasses.fields(cls) if f.name == name), None)


def choice_of(member: Any) -> Choice:
    """A data set among others, by its name or with its options."""
    try:
        return Choice.model_validate({"name": member} if isinstance(member, str) else member)
    except ValidationError as error:
        raise ConfigError(
            f"{member!r} names no data set", "Write its name, or {name: ..., option: value}."
        ) from error


def evaluation_dataset(config: Config, dataset: Dataset, seed: int | None = None) -> Dataset:
    """The data set as validation and test use it: their shots and queries, maybe another seed,
    where it has one: a problem with a single task draws none."""
    wanted = {"queries": config.evaluation.queries, "shots": config.evaluation.shots}
    changes = {name: value for name, value in wanted.items() if value is not None}
    for name in changes:
        if not has_option(type(dataset), name):
            raise ConfigError(
                f"data set '{config.dataset.name}' has no option '{name}' to change",
                "Leave it out.",
                key=f"evaluation.{name}",
            )
    if seed is not None and has_option(type(dataset), "seed"):
        changes["seed"] = seed
    changed: Dataset = dataclasses.replace(dataset, **changes)  # type: ignore[type-var]
    return changed
