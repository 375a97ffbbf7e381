"""A folder of a user's own images, divided by its folders, by a file or at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from binomctl.images.divide import at_random, by_file
from binomctl.images.fewshot import FRACTIONS, FewShotImages, settle_paths
from binomctl.images.layouts.folders import ClassFolder, SplitFolders
from binomctl.images.layouts.listed import CsvTables
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.images.store import ALL, ClassInfo, Index
from binomctl.options import option

SPLIT_TABLES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
TABLE = {ALL: "labels.csv"}


@dataclass(frozen=True)
class OwnFolder(FewShotImages):
    """Base of data sets that are whatever a folder holds. A class says its name, what files it
    expects, and the size where nobody asks for another."""

    mode: Literal["RGB", "L"] = option("RGB", "colour, or L: grey")
    invert: bool = option(False, "black on white becomes white on black")
    split_file: str | None = option(
        None, "YAML or JSON {train: [classes], validation: [...], test: [...]}; null: at random"
    )
    split_seed: int = option(0, "seed of the random division: 64%, 16% and 20% of the classes")

    name: ClassVar[str]
    expected: ClassVar[str]
    size: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_paths(self, "split_file")

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name=self.name,
            layouts=(SplitFolders(), CsvTables(SPLIT_TABLES), CsvTables(TABLE), ClassFolder()),
            shape=Shape(self.mode, self.image_size or self.size, self.invert),
            expected=self.expected,
        )

    def divide(self, index: Index) -> Mapping[str, tuple[ClassInfo, ...]]:
        if ALL not in index.splits:
            return index.splits
        if self.split_file is not None:
            return by_file(index.splits[ALL], Path(self.split_file))
        return at_random(index.splits[ALL], FRACTIONS, self.split_seed)
