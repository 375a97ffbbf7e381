"""Data sets whose files do not say which classes are for training: the field's divisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from binomctl.errors import DataError
from binomctl.images.divide import alternate, meta_dataset
from binomctl.images.fewshot import FewShotImages
from binomctl.images.store import ALL, ClassInfo, Index
from binomctl.options import option

DIVISIONS = (
    "meta-dataset: Triantafillou et al. 2020; alternate: every second class trains, every fourth"
    " validates and tests (Chen et al. 2019)"
)


@dataclass(frozen=True)
class Undivided(FewShotImages):
    """Base of such data sets; what the files do divide stays as they say."""

    counts: ClassVar[tuple[int, int, int]]
    """Classes for train, validation and test in Meta-Dataset; their sum is how many there are."""
    division: Literal["meta-dataset", "alternate"] = option("meta-dataset", DIVISIONS)

    def divide(self, index: Index) -> Mapping[str, tuple[ClassInfo, ...]]:
        if ALL not in index.splits:
            return index.splits
        classes = sorted(index.splits[ALL], key=lambda c: c.name)
        if len(classes) != sum(self.counts):
            raise DataError(
                f"{self.recipe.name} has {len(classes)} classes here and {sum(self.counts)} as"
                " published: its published division does not fit",
                "A part of it is a folder of images like any other; say how it is divided.",
            )
        if self.division == "alternate":
            return alternate(classes)
        return meta_dataset(classes, self.counts)
