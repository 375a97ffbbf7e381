"""The handwritten digits that come with scikit-learn, 8 x 8 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from binomctl.episodes import Episode, check_split, generator
from binomctl.errors import DataError, MissingDependencyError
from binomctl.images import sampling
from binomctl.images.classification import Classification
from binomctl.options import at_least, option, plugin

SHARES = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}


@plugin
@dataclass(frozen=True)
class Digits(Classification):
    """Handwritten digits of scikit-learn, 1,797 images of 8 x 8: the same classes in every split.

    The splits differ in images, not in classes (the first three fifths of each class are train's):
    it is here for bilevel problems and for checks, not for few-shot results.
    """

    ways: int = option(5, "classes per task, up to 10")
    shots: int = option(5, "support images per class")
    queries: int = option(10, "query images per class")
    seed: int = option(0, "seed of the task stream")

    splits: ClassVar[tuple[str, ...]] = tuple(SHARES)
    in_shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"model": {"name": "mlp"}, "adaptation": {"K": 5, "alpha": 0.1}}
    )

    def __post_init__(self) -> None:
        at_least(self, ways=2, shots=1, queries=1)

    def episode(self, split: str, index: int) -> Episode:
        """`ways` digits, shots + queries of their images in the split each."""
        check_split(split, self.splits)
        need, (low, high) = self.shots + self.queries, SHARES[split]
        classes = [own[round(low * len(own)) : round(high * len(own))] for own in _load()]
        fewest = min(map(len, classes))
        if self.ways > len(classes) or need > fewest:
            raise DataError(
                f"{self.ways} classes of {need} images; split"
                f" '{split}' of digits has {len(classes)} classes of {fewest} images or more",
                "Lower dataset.ways, dataset.shots or dataset.queries.",
            )
        random = generator(self.seed, split, index)
        chosen = random.choice(len(classes), self.ways, replace=False)
        rows = [random.permutation(len(classes[c]))[:need] for c in chosen]
        images = np.concatenate([classes[c][r] for c, r in zip(chosen, rows, strict=True)])
        order = sampling.support_first(self.ways, need, self.shots)
        return sampling.to_episode(images[order], order // need, self.ways * self.shots)


@lru_cache(maxsize=1)
def _load() -> list[NDArray[np.uint8]]:
    """Images [n, 8, 8, 1] of each digit."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError(
            "the data set 'digits' comes with scikit-learn, which is not installed",
            "pip install scikit-learn",
        ) from error
    found = load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)[..., None]  # values 0 .. 16
    return [np.ascontiguousarray(images[found.target == c]) for c in range(10)]
