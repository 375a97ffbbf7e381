"""Few-shot classification from a prepared store of images: what all such data sets share."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from binomctl.episodes import Episode, check_split, generator
from binomctl.errors import ConfigError, DataError
from binomctl.images import sampling, varied
from binomctl.images.classification import Classification
from binomctl.images.recipe import Recipe, open_prepared
from binomctl.images.store import SPLITS, ClassInfo, Index, Store
from binomctl.options import at_least, option
from binomctl.words import number_of

_NOTES = logging.getLogger("binomctl.notes")
ROOT = "BINOMCTL_DATA"
LARGEST = 1024  # pixels
FRACTIONS = (0.64, 0.16, 0.20)  # of the classes, where nothing says how to divide: miniImageNet's


def settle_paths(dataset: Any, *names: str) -> None:
    """Make paths among the options absolute, $BINOMCTL_DATA in place of no root: a run records
    them, and is evaluated from other folders."""
    for name in names:
        value = getattr(dataset, name) or (os.environ.get(ROOT) if name == "root" else None)
        if value:
            object.__setattr__(dataset, name, str(Path(value).expanduser().absolute()))


def data_root(root: str | None, name: str, expected: str) -> Path:
    """The folder of a data set's files; raises DataError when nobody said which."""
    if not root:
        raise DataError(
            f"where are the files of {name}? dataset.root is not set",
            f"Give --root DIR, or set {ROOT}. It needs {expected}.",
        )
    return Path(root)


@dataclass(frozen=True)
class FewShotImages(Classification, ABC):
    """Base of the image data sets. A data set says where its files may lie and what its images
    become (`recipe`), and may divide the classes itself (`divide`); nothing else is its own."""

    ways: int = option(5, "classes per task")
    shots: int = option(1, "support images per class")
    queries: int = option(15, "query images per class")
    root: str | None = option(
        None, "folder of the files, or of the prepared data; null: $BINOMCTL_DATA"
    )
    image_size: int | None = option(None, "height and width in pixels; null: the data set's own")
    mode: Literal["RGB", "L"] | None = option(
        None, "colour, or L: grey; null: as the data set's images are"
    )
    flip: bool = option(False, "in meta-training, mirror each image with probability 1/2")
    crop: int = option(0, "in meta-training, shift each image by up to so many pixels")
    varied: bool = option(
        False, "ways and shots drawn as in Meta-Dataset; ways and queries are then the most"
    )
    turn: bool = option(False, "in meta-training, turn each class of a task by quarter turns")
    seed: int = option(0, "seed of the task stream")

    splits: ClassVar[tuple[str, ...]] = SPLITS
    learn2learn: ClassVar[str] = ""
    """The class of learn2learn.vision.datasets that knows where the files can be fetched."""
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "model": {"name": "conv4"},
            "adaptation": {"K": 5, "alpha": 0.01},
            "evaluation": {"steps": 10},
        }
    )

    def __post_init__(self) -> None:
        at_least(self, ways=2, shots=1, queries=1, image_size=8, crop=0)
        if self.image_size is not None and self.image_size > LARGEST:
            raise ConfigError(f"image_size = {self.image_size} must be at most {LARGEST}")
        settle_paths(self, "root")

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """How the data set is read."""

    def divide(self, index: Index) -> Mapping[str, tuple[ClassInfo, ...]]:
        """The classes of train, validation and test; by default those the files say."""
        return index.splits

    def folder(self) -> Path:
        """Where the files lie; raises DataError when nobody said."""
        return data_root(self.root, self.recipe.name, self.recipe.expected)

    @property
    def in_shape(self) -> tuple[int, ...]:
        height, width, channels = _store(self).index.shape
        return (sampling.channels_of(self.mode, channels), height, width)

    def episode(self, split: str, index: int) -> Episode:
        """A task's images, support first, class by class; uint8 pixels [N, C, H, W]."""
        drawn, random = self._draw(split, index)
        images = _store(self).images[drawn.rows]
        if split == "train":
            images = self._augment(images, drawn, random)
        episode = sampling.to_episode(images, drawn.owners, drawn.support)
        x_trn, x_val = (sampling.in_mode(x, self.mode) for x in (episode.x_trn, episode.x_val))
        return replace(episode, x_trn=x_trn, x_val=x_val)

    def class_names(self, split: str, index: int) -> list[str]:
        """The names of the classes 0 .. ways - 1 of an episode."""
        return self._draw(split, index)[0].names

    def metric(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The accuracy; of a task with fewer ways than the network has outputs, among its own."""
        return super().metric(prediction[:, : int(y.max()) + 1] if self.varied else prediction, y)

    def _draw(self, split: str, index: int) -> tuple[_Drawn, np.random.Generator]:
        check_split(split, self.splits)
        random = generator(self.seed, split, index)
        need = 2 if self.varied else self.shots + self.queries
        classes, starts, counts = _eligible(self, _store(self), split, need)
        if len(classes) < (2 if self.varied else self.ways):
            self._too_few(split, need, len(classes))
        if self.varied:
            task = varied.draw(counts, self.ways, self.queries, random)
            chosen, shots = task.classes, task.shots
            images = [random.permutation(counts[c])[: n + task.queries]
                      for c, n in zip(chosen, shots, strict=True)]  # fmt: skip
        else:
            chosen, drawn = sampling.draw(counts, self.ways, need, random)
            images, shots = list(drawn), np.full(self.ways, self.shots)
        rows = [start + own for start, own in zip(starts[chosen], images, strict=True)]
        parts = [[r[:n] for r, n in zip(rows, shots, strict=True)],
                 [r[n:] for r, n in zip(rows, shots, strict=True)]]  # fmt: skip
        owners = [np.full(len(own), c) for part in parts for c, own in enumerate(part)]
        return _Drawn(
            [classes[c].name for c in chosen], np.concatenate([r for part in parts for r in part]),
            np.concatenate(owners), int(shots.sum()),
        ), random  # fmt: skip

    def _too_few(self, split: str, need: int, enough: int) -> NoReturn:
        counts = sorted((c.count for c in self.divide(_store(self).index)[split]), reverse=True)
        total, wanted = len(counts), 2 if self.varied else self.ways
        ways = min(wanted, total)
        lower = [f"dataset.ways to {ways}"] if ways < wanted else []
        if ways > 1 and counts[ways - 1] < need and not self.varied:
            left = counts[ways - 1] - self.shots
            lower += [f"the queries (training.queries, at test evaluation.queries) to {left}"
                      if left > 0 else "dataset.shots"]  # fmt: skip
        gain = f"ive '{split}' more images a class."
        if ways < wanted:
            gain = f"ive '{split}' more classes: by dataset.split_file, or by folders."
        hint = f"Lower {' and '.join(lower)}, or g{gain}" if lower and ways > 1 else f"G{gain}"
        raise DataError(
            f"{self.ways}-way tasks of {number_of(self.shots, 'shot')} +"
            f" {number_of(self.queries, 'query')} ="
            f" {need} images per class: split '{split}' of {self.recipe.name} has {total}"
            f" classes, {enough} of them with so many images",
            hint,
        )

    def _augment(
        self, images: NDArray[np.uint8], drawn: _Drawn, random: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Change images [N, H, W, C] at random."""
        N, height, width = images.shape[:3]
        if self.turn:
            if height != width:
                raise DataError(
                    f"turn = true needs square images, these are {width}x{height}",
                    "Set dataset.turn=false, or prepare the images with --size.",
                )
            turns = random.integers(0, 4, (len(drawn.names),))
            images = sampling.turn(images, turns[drawn.owners])
        if self.flip:
            images = sampling.flip(images, np.less(random.random(N), 0.5))
        if self.crop:
            shifts = random.integers(0, 2 * self.crop + 1, (N, 2))
            images = sampling.shift(images, shifts, self.crop)
        return images


@dataclass(frozen=True)
class _Drawn:
    """A task: names of its classes, rows of the store and class of each image, support first."""

    names: list[str]
    rows: NDArray[np.int64]
    owners: NDArray[np.int64]
    support: int


@lru_cache(maxsize=64)
def _store(dataset: FewShotImages) -> Store:
    """A data set's prepared form, looked for once and not at every episode."""
    return open_prepared(dataset.recipe, dataset.folder())


@lru_cache(maxsize=64)
def _eligible(
    dataset: FewShotImages, store: Store, split: str, need: int
) -> tuple[list[ClassInfo], NDArray[np.int64], NDArray[np.int64]]:
    """The classes of a split with enough images: infos, first rows, numbers of images."""
    own = dataset.divide(store.index)[split]
    classes = [c for c in own if c.count >= need]
    if few := [c for c in own if c.count < need]:
        named = ", ".join(f"{c.name} ({c.count})" for c in few[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        _NOTES.warning(
            "%d of %d classes of split '%s' have fewer than %d images, the shots and queries of a"
            " task, and are in no task: %s%s",
            len(few), len(own), split, need, named, more,
        )  # fmt: skip
    starts = np.array([c.start for c in classes], np.int64)
    return classes, starts, np.array([c.count for c in classes], np.int64)
