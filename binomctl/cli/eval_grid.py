"""What `binomctl eval` scores a network on, as it is typed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any


@dataclass(frozen=True)
class Grid:
    """What a network is scored on: every combination. None stands for the run's own."""

    ways: list[int | None]
    shots: list[int | None]
    queries: list[int | None]
    steps: list[int | None]
    seeds: list[int | None]
    checkpoints: list[str | None]

    @property
    def single(self) -> bool:
        return len(self.cells()) == 1

    def cells(self) -> list[tuple[Any, ...]]:
        return list(product(self.checkpoints, self.ways, self.shots, self.queries, self.steps,
                            self.seeds))  # fmt: skip


def numbers(name: str, text: str | None, least: int) -> list[int | None]:
    """ "5,20" -> [5, 20]; nothing -> [None]."""
    from binomctl.errors import ConfigError

    if text is None:
        return [None]
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and least <= int(word) < 2**63 for word in words):
        raise ConfigError(
            f"--{name} {text} is no number from {least} on, and no list of them",
            f"Write --{name} 5 or --{name} 1,5.",
        )
    return [int(word) for word in words]


def dataset_choice(dataset: str | None, assign: list[str] | None) -> Any:
    """The data set that was named, with its options; None for the run's own."""
    from binomctl.errors import ConfigError
    from binomctl.settings.layers import load_config

    if dataset is None:
        if assign:
            raise ConfigError("--set is for the options of --dataset", "Name a data set, too.")
        return None
    if strange := [one for one in assign or [] if not one.startswith("dataset.")]:
        raise ConfigError(f"--set {strange[0]} is no option of the data set", "Write dataset.KEY=.")
    return load_config(overrides={"dataset.name": dataset}, assignments=assign)[0].dataset
