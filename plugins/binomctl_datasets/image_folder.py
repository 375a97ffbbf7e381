"""Any folder of images: one sub-folder a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from binomctl.images.divide import at_random, by_file
from binomctl.images.fewshot import FRACTIONS, FewShotImages, settle_paths
from binomctl.images.layouts.folders import ALL, ClassFolder, SplitFolders
from binomctl.images.layouts.listed import CsvTables
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.images.store import ClassInfo, Index
from binomctl.options import option, plugin

SPLIT_TABLES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
TABLE = {ALL: "labels.csv"}


@plugin
@dataclass(frozen=True)
class ImageFolder(FewShotImages):
    """Images of yours: {train,val,test}/<class>/*, <class>/*, or images/* with labels in a CSV."""

    mode: Literal["RGB", "L"] = option("RGB", "colour, or L: grey")
    invert: bool = option(False, "black on white becomes white on black")
    split_file: str | None = option(
        None, "YAML or JSON {train: [classes], validation: [...], test: [...]}; null: at random"
    )
    split_seed: int = option(0, "seed of the random division: 64%, 16% and 20% of the classes")

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_paths(self, "split_file")

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="image-folder",
            layouts=(SplitFolders(), CsvTables(SPLIT_TABLES), CsvTables(TABLE), ClassFolder()),
            shape=Shape(self.mode, self.image_size, self.invert),
            expected="folders {train,val,test}/<class>/*, or <class>/*, or images/* with"
            " {train,val,test}.csv or labels.csv of filename,label",
        )

    def divide(self, index: Index) -> Mapping[str, tuple[ClassInfo, ...]]:
        if ALL not in index.splits:
            return index.splits
        if self.split_file is not None:
            return by_file(index.splits[ALL], Path(self.split_file))
        return at_random(index.splits[ALL], FRACTIONS, self.split_seed)
