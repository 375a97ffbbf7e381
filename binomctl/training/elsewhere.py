"""A run's configuration for tasks it was not trained on: other classes, shots, another data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binomctl.errors import ConfigError
from binomctl.options import has_option
from binomctl.problem.datasets import build_dataset
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.section import Choice


@dataclass(frozen=True)
class Tasks:
    """What the tasks of an evaluation are, where they are not the run's own; None: as the run has
    it. dataset: a name, with its options."""

    ways: int | None = None
    shots: int | None = None
    queries: int | None = None
    dataset: Choice | None = None
    root: Path | None = None

    @property
    def setting(self) -> str:
        """In a file name; empty for the run's own tasks."""
        parts = [self.dataset.name.replace(":", "-")] if self.dataset else []
        counts = (("way", self.ways), ("shot", self.shots), ("query", self.queries))
        return "-".join([*parts, *(f"{n}{word}" for word, n in counts if n is not None)])


def config_for(config: Config, tasks: Tasks, in_shape: tuple[int, ...]) -> Config:
    """The configuration of a run with other tasks.

    Args:
        in_shape: of the examples that its network takes.

    Raises:
        ConfigError: the data set has no such option, or examples that the network cannot take.
    """
    chosen = tasks.dataset or config.dataset
    cls = registry.load("dataset", chosen.name)
    options: dict[str, Any] = dict(chosen.options)
    if tasks.dataset is not None:  # a task is what it was, but for where its examples are from
        for name in ("ways", "shots", "queries", "seed"):
            if name in config.dataset.options and has_option(cls, name):
                options.setdefault(name, config.dataset.options[name])
        options |= _shape_options(cls, options, in_shape)
    if tasks.root is not None:
        options["root"] = str(tasks.root.expanduser().absolute())
    if tasks.ways is not None:
        if not has_option(cls, "ways"):
            raise ConfigError(
                f"data set '{chosen.name}' has no option 'ways' to change: it has no classes",
                "Leave it out.",
                key="dataset.ways",
            )
        options["ways"] = tasks.ways
    changes = {name: getattr(tasks, name) for name in ("shots", "queries")}
    evaluation = {name: value for name, value in changes.items() if value is not None}
    return config.model_copy(
        update={
            "dataset": Choice.model_validate({"name": chosen.name, **options}),
            "evaluation": config.evaluation.model_copy(update=evaluation),
        }
    )


def check_shape(config: Config, in_shape: tuple[int, ...]) -> None:
    """Refuse a data set whose examples the network cannot take.

    Raises:
        ConfigError: naming both shapes. DataError: it is not prepared.
    """
    found = tuple(build_dataset(config).in_shape)
    if found != in_shape:
        pictures = len(found) == len(in_shape) == 3
        raise ConfigError(
            f"the network takes examples of {list(in_shape)}, '{config.dataset.name}' has"
            f" {list(found)}",
            "Give the size it was trained on, --set dataset.image_size=N, and its channels,"
            " --set dataset.mode=RGB or L, where the data set has these options."
            if pictures
            else "Name a data set of such examples, or train a network on this one.",
            key="dataset.name",
        )


def _shape_options(cls: type, options: dict[str, Any], in_shape: tuple[int, ...]) -> dict[str, Any]:
    """Options that bring another data set's images to the network's size and channels."""
    if len(in_shape) != 3:
        return {}
    channels, height, width = in_shape
    out: dict[str, Any] = {}
    if height == width and has_option(cls, "image_size") and "image_size" not in options:
        out["image_size"] = height
    if has_option(cls, "mode") and "mode" not in options:
        out["mode"] = "L" if channels == 1 else "RGB"
    return out
