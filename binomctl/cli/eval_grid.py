"""What `binomctl eval` scores a network on, as it is typed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from binomctl.cli.data_options import check_of_dataset
from binomctl.words import number_of

ENSEMBLE = "ensemble"
CHECKPOINTS = ("best", "last", ENSEMBLE)
INFERENCES = ("transductive", "inductive")


@dataclass(frozen=True)
class Grid:
    """What a network is scored on: every combination. None stands for the run's own."""

    ways: list[int | None]
    shots: list[int | None]
    queries: list[int | None]
    steps: list[int | None]
    seeds: list[int | None]
    checkpoints: list[str | None]
    inferences: list[str | None]

    @property
    def single(self) -> bool:
        """Whether it is one combination."""
        return all(len(values) == 1 for values in vars(self).values())

    def problems(self) -> Iterator[tuple[Any, ...]]:
        """(checkpoint, ways, shots, queries): what a network is made for."""
        return product(self.checkpoints, self.ways, self.shots, self.queries)

    def protocols(self) -> Iterator[tuple[Any, ...]]:
        """(steps, seed, inference): what one network is scored under."""
        return product(self.steps, self.seeds, self.inferences)

    def told(self, steps: int | None, seed: int | None, inference: str | None) -> str:
        """What tells a protocol from the others that were asked for; "" where it is one."""
        told = []
        if len(self.steps) > 1 and steps is not None:
            told.append(number_of(steps, "step"))
        told += [f"seed {seed}"] if len(self.seeds) > 1 else []
        told += [str(inference)] if len(self.inferences) > 1 else []
        return ", ".join(told)


def numbers(name: str, text: str | None, least: int) -> list[int | None]:
    """ "5,20" -> [5, 20]; nothing -> [None]."""
    from binomctl.errors import ConfigError

    if text is None:
        return [None]
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and least <= int(word) < 2**63 for word in words):
        raise ConfigError(
            f"--{name} {text} is no number from {least} on, and no list of them",
            f"Write --{name} 5 or --{name} 5,20.",
        )
    return [int(word) for word in words]


def words(name: str, text: str | None, known: tuple[str, ...]) -> list[str | None]:
    """ "best,last" -> ["best", "last"]; nothing -> [None]."""
    from binomctl.errors import ConfigError, unknown

    if text is None:
        return [None]
    found: list[str | None] = []
    for word in text.split(","):
        if word.strip() not in known:
            raise ConfigError(
                f"--{name}: {unknown(name, word.strip(), list(known))}",
                f"Write one of them, or several: --{name} {','.join(known[:2])}.",
            )
        found.append(word.strip())
    return found


def dataset_choice(dataset: str | None, assign: list[str] | None) -> Any:
    """The data set that was named, with its options; None for the run's own."""
    from binomctl.errors import ConfigError
    from binomctl.settings.layers import Given, load_config

    if dataset is None:
        if assign:
            raise ConfigError("--set is for the options of --dataset", "Name a data set, too.")
        return None
    check_of_dataset(assign)
    given = Given({"dataset.name": dataset}, {"dataset.name": "--dataset"})
    return load_config(overrides=given, assignments=assign)[0].dataset
