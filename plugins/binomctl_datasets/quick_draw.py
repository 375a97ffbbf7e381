"""Quick, Draw! (Jongejan et al. 2016): drawings as 28x28 bitmaps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from binomctl.images.layouts.folders import SplitFolders
from binomctl.images.layouts.records import sound
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Rows, Shape, Source, SourceClass, places_to_look
from binomctl.images.store import ALL
from binomctl.images.undivided import Undivided
from binomctl.options import option, plugin

FOLDERS = ("quickdraw", "quick_draw", "numpy_bitmap")


@plugin
@dataclass(frozen=True)
class QuickDraw(Undivided):
    """Quick Draw: 345 classes, 28x28 grey; 241 train, 52 validate, 52 test."""

    per_class: int | None = option(
        None, "drawings of each class, its first ones; null: all of the 50,426,266, 40 GB"
    )
    counts = (241, 52, 52)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="quick-draw",
            layouts=(
                SplitFolders(FOLDERS, {"train": 241, "validation": 87, "test": 87}),
                ClassArrays(),
            ),
            shape=Shape("L", self.image_size or 28),
            at_most=self.per_class,
            reference={} if self.per_class else {ALL: (345, 50426266)},
            expected="an array numpy_bitmap/<class>.npy for every class, or folders"
            " {train,val,test}/<class>/*",
        )


@dataclass(frozen=True)
class ClassArrays:
    """<class>.npy for every class: uint8 [n, 784], a drawing of 28x28 a row, mapped."""

    def find(self, root: Path) -> Source | None:
        for folder in places_to_look(root, FOLDERS):
            files = sorted(folder.glob("*.npy"))
            if not files:
                continue
            classes = [SourceClass(p.stem.removeprefix("full_numpy_bitmap_"), _drawings(p), p)
                       for p in files]  # fmt: skip
            return Source("an array a class: *.npy", {ALL: classes}, files)
        return None


def _drawings(path: Path) -> Rows:
    with sound(path):
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != 784:
            raise ValueError(f"{array.dtype} {list(array.shape)}, expected uint8 [n, 784]")
        return Rows(array.reshape(-1, 28, 28), range(len(array)))
