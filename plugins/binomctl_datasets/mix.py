"""Tasks of several data sets, each task of one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from binomctl.contracts import Dataset, NamesClasses
from binomctl.episodes import Episode, check_split, generator
from binomctl.errors import ConfigError
from binomctl.images.classification import Classification
from binomctl.images.sampling import channels_of, in_mode
from binomctl.options import at_least, has_option, option, plugin

SPLITS = ("train", "validation", "test")


@plugin
@dataclass(frozen=True)
class Mix(Classification):
    """Tasks of several image data sets, each task of one of them, drawn by weight."""

    of: tuple[Any, ...] = option((), "the data sets: names, or {name, and options of its own}")
    weights: tuple[float, ...] | None = option(None, "of each, any scale; null: all alike")
    ways: int = option(5, "classes per task")
    shots: int = option(1, "support images per class")
    queries: int = option(15, "query images per class")
    image_size: int | None = option(None, "height and width in pixels; null: each one's own")
    mode: Literal["RGB", "L"] | None = option(
        None, "all in colour, or all grey (L); null: as they are"
    )
    seed: int = option(0, "seed of the task stream")

    composed_of: ClassVar[str] = "of"
    splits: ClassVar[tuple[str, ...]] = SPLITS
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "model": {"name": "conv4"},
            "adaptation": {"K": 5, "alpha": 0.01},
            "evaluation": {"steps": 10},
        }
    )

    def __post_init__(self) -> None:
        at_least(self, ways=2, shots=1, queries=1, image_size=8)
        if len(self.of) < 2:
            raise ConfigError(
                f"of names {len(self.of)} data sets; a mix is of two or more",
                "Write dataset.of=[omniglot, {name: cub, root: DIR}].",
                key="dataset.of",
            )
        if self.weights is not None and (
            len(self.weights) != len(self.of) or min(self.weights) < 0 or sum(self.weights) <= 0
        ):
            raise ConfigError(
                f"weights {list(self.weights)}: {len(self.of)} data sets need so many, none of"
                " them negative and not all zero",
                key="dataset.weights",
            )
        object.__setattr__(self, "of", tuple(self._own(member) for member in self.of))

    def _own(self, member: Dataset) -> Dataset:
        """A member with this data set's ways, shots, queries, seed and size of images."""
        names = ("ways", "shots", "queries", "seed", "image_size", "mode")
        known = {n: getattr(self, n) for n in names if has_option(type(member), n)}
        lacking = [n for n in ("ways", "shots", "queries") if n not in known]
        if lacking or member.kind != self.kind:
            raise ConfigError(
                f"{type(member).__name__} is no few-shot classification with ways, shots and"
                " queries to set",
                key="dataset.of",
            )
        changed: Dataset = dataclasses.replace(  # type: ignore[type-var]
            member, **{n: v for n, v in known.items() if v is not None}
        )
        return changed

    def members(self) -> tuple[Dataset, ...]:
        """The data sets, in order."""
        return self.of

    @property
    def in_shape(self) -> tuple[int, ...]:
        shapes = [self._shaped(tuple(member.in_shape)) for member in self.of]
        if len(set(shapes)) > 1:
            pairs = zip(self.of, shapes, strict=True)
            found = ", ".join(f"{type(member).__name__} {list(shape)}" for member, shape in pairs)
            raise ConfigError(
                f"the mixed data sets have examples of different shapes: {found}",
                "Set dataset.image_size, and dataset.mode to RGB or L.",
                key="dataset.of",
            )
        return shapes[0]

    def _shaped(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (channels_of(self.mode, shape[0]), *shape[1:]) if len(shape) == 3 else shape

    def episode(self, split: str, index: int) -> Episode:
        """The episode of the same number of a data set drawn by weight."""
        check_split(split, self.splits)
        own = self.member(split, index).episode(split, index)
        return dataclasses.replace(
            own, x_trn=in_mode(own.x_trn, self.mode), x_val=in_mode(own.x_val, self.mode)
        )

    def member(self, split: str, index: int) -> Dataset:
        """The data set that an episode is of."""
        random = generator(self.seed, f"mix of {split}", index)
        weights = self.weights or (1.0,) * len(self.of)
        found: Dataset = self.of[random.choice(len(self.of), p=[w / sum(weights) for w in weights])]
        return found

    def class_names(self, split: str, index: int) -> list[str]:
        """The names of the classes 0 .. ways - 1 of an episode, after their data set's."""
        member = self.member(split, index)
        kind = type(member).__name__
        known = member.class_names(split, index) if isinstance(member, NamesClasses) else None
        return [f"{kind} {name}" for name in known or range(self.ways)]
