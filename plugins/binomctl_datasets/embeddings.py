"""Feature vectors of a user's own, made beforehand by any network."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from binomctl.episodes import Episode, check_split, generator
from binomctl.errors import ConfigError, DataError
from binomctl.images import sampling
from binomctl.images.classification import Classification
from binomctl.options import at_least, option, plugin


@plugin
@dataclass(frozen=True)
class Embeddings(Classification):
    """Feature vectors with labels from an .npz file: train_x [n, features], train_y [n], and so on.

    The file holds such a pair for `train`, `validation` and `test`; labels are integers or text.
    """

    path: str = option("", "the .npz file")
    ways: int = option(5, "classes per task")
    shots: int = option(1, "support examples per class")
    queries: int = option(15, "query examples per class")
    seed: int = option(0, "seed of the task stream")

    after_colon: ClassVar[str] = "path"
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"model": {"name": "mlp"}, "adaptation": {"K": 5, "alpha": 0.01}}
    )

    def __post_init__(self) -> None:
        at_least(self, ways=2, shots=1, queries=1)
        if not self.path:
            raise ConfigError(
                "embeddings come from a file of yours, and none is named",
                "--dataset embeddings:FILE.npz, with train_x [n, features], train_y [n], and the"
                " same for validation and test.",
                key="dataset.path",
            )

    @property
    def in_shape(self) -> tuple[int, ...]:
        return (_load(self.path)["train"][0].shape[1],)

    def episode(self, split: str, index: int) -> Episode:
        """`ways` classes of the split, shots + queries of their vectors each."""
        check_split(split, self.splits)
        x, groups = _load(self.path)[split]
        need = self.shots + self.queries
        enough = [own for own in groups if len(own) >= need]
        if len(enough) < self.ways:
            raise DataError(
                f"{self.path}: {len(enough)} of the {len(groups)} classes of '{split}' have"
                f" {need} vectors, {self.ways} are needed",
                "Lower dataset.ways, dataset.shots or dataset.queries.",
            )
        random = generator(self.seed, split, index)
        chosen = random.choice(len(enough), self.ways, replace=False)
        rows = np.concatenate([random.permutation(enough[c])[:need] for c in chosen])
        order = sampling.support_first(self.ways, need, self.shots)
        owners, support = torch.from_numpy(order // need), self.ways * self.shots
        vectors = torch.from_numpy(x[rows[order]])
        return Episode(vectors[:support], owners[:support], vectors[support:], owners[support:])


Split = tuple[NDArray[np.float32], list[NDArray[np.int64]]]
"""Vectors [n, features], and which of them are of each class."""


@lru_cache(maxsize=2)
def _load(path: str) -> dict[str, Split]:
    """The splits.

    Raises:
        DataError: the file, or an array of it, is missing or is something else.
    """
    file = Path(path).expanduser()
    try:
        with np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file} cannot be read: {type(error).__name__}: {error}",
            "Write it with numpy.savez(FILE, train_x=..., train_y=..., ...).",
        ) from error
    return {split: _split(file, arrays, split) for split in Embeddings.splits}


def _split(file: Path, arrays: Mapping[str, NDArray[Any]], split: str) -> Split:
    missing = [name for name in (f"{split}_x", f"{split}_y") if name not in arrays]
    if missing:
        raise DataError(
            f"{file} has no {' and no '.join(missing)}; it has {', '.join(arrays) or 'nothing'}",
            "A split is two arrays: SPLIT_x [n, features] and SPLIT_y [n].",
        )
    x, y = arrays[f"{split}_x"], arrays[f"{split}_y"]
    if x.ndim != 2 or y.shape != x.shape[:1] or x.dtype.kind not in "fiu":
        raise DataError(
            f"{file}: {split}_x is {list(x.shape)} of {x.dtype} and {split}_y {list(y.shape)}",
            "Give numbers [n, features] and labels [n].",
        )
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise DataError(f"{file}: {split}_x has entries that are not finite")
    return x, [np.flatnonzero(y == label) for label in np.unique(y)]
