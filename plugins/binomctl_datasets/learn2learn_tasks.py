"""learn2learn's benchmarks and data sets as a source of episodes: --dataset learn2learn:NAME."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from binomctl.episodes import Episode, check_split, generator
from binomctl.errors import DataError
from binomctl.images import learn2learn, sampling
from binomctl.images.classification import Classification
from binomctl.images.divide import at_random
from binomctl.images.fewshot import FRACTIONS, FewShotImages, data_root, settle_paths
from binomctl.images.sources import as_array
from binomctl.images.store import SPLITS, ClassInfo
from binomctl.options import at_least, option, plugin

_LOCK = threading.Lock()


@plugin
@dataclass(frozen=True)
class Learn2Learn(Classification):
    """Tasks of learn2learn: a benchmark (mini-imagenet, cifarfs, ...) or a data set class."""

    source: str = option(
        "mini-imagenet",
        "a benchmark of learn2learn.vision.benchmarks, or a class of learn2learn.vision.datasets",
    )
    ways: int = option(5, "classes per task")
    shots: int = option(1, "support images per class")
    queries: int = option(15, "query images per class")
    root: str | None = option(None, "folder of learn2learn's files; null: $BINOMCTL_DATA")
    image_size: int = option(84, "height and width in pixels, for data set classes")
    seed: int = option(0, "seed of the task stream")

    splits: ClassVar[tuple[str, ...]] = SPLITS
    recommended: ClassVar[Mapping[str, Any]] = FewShotImages.recommended
    after_colon: ClassVar[str] = "source"

    def __post_init__(self) -> None:
        at_least(self, ways=2, shots=1, queries=1, image_size=8)
        settle_paths(self, "root")

    def folder(self) -> Path:
        return data_root(self.root, "learn2learn", "the files that learn2learn keeps")

    @property
    def in_shape(self) -> tuple[int, ...]:
        return tuple(self.episode("train", 0).x_trn.shape[1:])

    def episode(self, split: str, index: int) -> Episode:
        """A benchmark's tasks are drawn by learn2learn itself, those of a data set class here; both
        are pure in (seed, split, index)."""
        check_split(split, self.splits)
        draws = generator(self.seed, split, index)
        if self.source[:1].isupper():
            return self._from_class(split, draws)
        samples = self.shots + self.queries
        tasks = getattr(_tasksets(self.source, self.folder(), self.ways, samples), split)
        with _seeded(int(draws.integers(2**31))):
            try:
                x, y = tasks.sample()
            except (ValueError, IndexError, KeyError) as error:
                raise DataError(
                    f"learn2learn cannot draw {self.ways} classes of {samples} images from split"
                    f" '{split}' of {self.source}: {error}",
                    "Lower dataset.ways, dataset.shots or the queries.",
                ) from error
        order = y.argsort(stable=True).reshape(self.ways, samples)
        labels = y[order]
        trn, val = order[:, : self.shots].flatten(), order[:, self.shots :].flatten()
        n = self.shots
        return Episode(x[trn], labels[:, :n].flatten(), x[val], labels[:, n:].flatten())

    def _from_class(self, split: str, draws: np.random.Generator) -> Episode:
        data = _dataset(self.source, self.folder(), split)
        need = self.shots + self.queries
        eligible = [
            rows for rows in _labels(self.source, self.folder(), split) if len(rows) >= need
        ]
        if self.ways > len(eligible):
            raise DataError(
                f"{self.ways}-way tasks of {need} images per class: split '{split}' of"
                f" {self.source} has {len(eligible)} classes with so many",
                "Lower dataset.ways, dataset.shots or the queries.",
            )
        counts = np.array([len(rows) for rows in eligible])
        chosen, images = sampling.draw(counts, self.ways, need, draws)
        rows = [eligible[c][i] for c, drawn in zip(chosen, images, strict=True) for i in drawn]
        order = sampling.support_first(self.ways, need, self.shots)
        with _LOCK:  # learn2learn's readers were not written for threads
            pixels = [_pixels(data[rows[place]][0], self.image_size) for place in order]
        return sampling.to_episode(np.stack(pixels), order // need, self.ways * self.shots)


@lru_cache(maxsize=4)
def _tasksets(source: str, root: Path, ways: int, samples: int) -> Any:
    return learn2learn.tasksets(source, root, ways, samples)


@lru_cache(maxsize=6)
def _dataset(source: str, root: Path, split: str) -> Any:
    return learn2learn.dataset(source, root, split)


@lru_cache(maxsize=6)
def _labels(source: str, root: Path, split: str) -> list[list[int]]:
    """The rows of every class of a split; a data set without splits is divided at random."""
    by_label = _dataset(source, root, split).labels_to_indices
    labels = sorted(by_label)
    if not learn2learn.has_splits(source):
        infos = [ClassInfo(f"{i:08d}", i, 0) for i in range(len(labels))]
        labels = [labels[c.start] for c in at_random(infos, FRACTIONS, 0)[split]]
    return [list(by_label[label]) for label in labels]


def _pixels(image: Any, size: int) -> NDArray[np.uint8]:
    """A PIL image, or a tensor [C, H, W] in 0..1 or 0..255, as uint8 [size, size, C]."""
    from PIL import Image

    if isinstance(image, Tensor):
        scaled = image * 255 if float(image.max()) <= 1 else image
        array = scaled.round().to(torch.uint8).movedim(0, -1).numpy()
        image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return as_array(image, "L" if image.mode in ("1", "L") else "RGB", size)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """learn2learn draws from the global generators: give them a seed, and their state back."""
    with _LOCK:
        kept = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
            torch.random.set_rng_state(kept[2])
