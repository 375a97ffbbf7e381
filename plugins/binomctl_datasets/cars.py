"""Stanford Cars (Krause et al. 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from binomctl.images.layouts.folders import ClassFolder, SplitFolders
from binomctl.images.layouts.listed import by_class
from binomctl.images.layouts.records import sound
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Missing, Shape, Source, places_to_look
from binomctl.images.store import ALL
from binomctl.images.undivided import Undivided
from binomctl.options import option, plugin

FOLDERS = ("stanford_cars", "cars", "cars_196")
PARTS = (("cars_train", "devkit/cars_train_annos.mat"),
         ("cars_test", "cars_test_annos_withlabels.mat"))  # fmt: skip


@plugin
@dataclass(frozen=True)
class Cars(Undivided):
    """Cars: 196 models, 16,185 images, 84x84 RGB; 98 train, 49 validate, 49 test."""

    division: Literal["alternate"] = option("alternate", "as in Tseng et al. 2020")

    counts = (98, 49, 49)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="cars",
            layouts=(
                SplitFolders(FOLDERS, {"train": 98, "validation": 49, "test": 49}),
                Annotations(),
                ClassFolder(("car_data", "images")),
            ),
            shape=Shape("RGB", self.image_size or 84),
            archives=("car_ims.tgz", "cars_train.tgz", "cars_test.tgz"),
            reference={ALL: (196, 16185)},
            expected="car_ims/*.jpg with cars_annos.mat; cars_train/*.jpg and cars_test/*.jpg with"
            " devkit/cars_train_annos.mat and cars_test_annos_withlabels.mat; or folders"
            " {train,val,test}/<class>/*",
        )


@dataclass(frozen=True)
class Annotations:
    """Pictures numbered through, and the class of each in a MATLAB file: in one folder, or in two
    whose division by pictures few-shot tasks ignore."""

    def find(self, root: Path) -> Source | None:
        for folder in places_to_look(root, FOLDERS):
            one = folder / "cars_annos.mat"
            if one.is_file():
                pairs = _pairs(one, "relative_im_path")
                classes = by_class(pairs, folder, one)
                return Source("car_ims/*.jpg, cars_annos.mat", {ALL: classes}, [one])
            tables = [(images, folder / table) for images, table in PARTS]
            if not any(table.is_file() for _, table in tables):
                continue
            pairs = []
            for images, table in tables:
                if not table.is_file():
                    raise Missing(f"{folder} is Stanford Cars, but has no {table}")
                pairs += [(f"{images}/{name}", label) for name, label in _pairs(table, "fname")]
            classes = by_class(pairs, folder, folder)
            used = [path for images, table in tables for path in (folder / images, table)]
            return Source("cars_{train,test}/*.jpg with devkit", {ALL: classes}, used)
        return None


def _pairs(path: Path, column: str) -> list[tuple[str, str]]:
    """(file, class as three digits, in the files' order of classes)."""
    from scipy.io import loadmat

    with sound(path):
        rows: Any = np.atleast_1d(loadmat(path, squeeze_me=True)["annotations"])
        return [(str(row[column]), f"{int(row['class']):03d}") for row in rows]
