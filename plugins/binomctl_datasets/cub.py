"""Caltech-UCSD Birds-200-2011 (Wah et al. 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from binomctl.images.layouts.folders import ClassFolder, SplitFolders
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.images.store import ALL
from binomctl.images.undivided import DIVISIONS, Undivided
from binomctl.options import option, plugin

FOLDERS = ("CUB_200_2011", "cub", "CUB")


@plugin
@dataclass(frozen=True)
class CUB(Undivided):
    """CUB: 200 birds, 11,788 images, 84x84 RGB; 100 train, 50 validate, 50 test."""

    division: Literal["meta-dataset", "alternate"] = option("alternate", DIVISIONS)

    counts = (140, 30, 30)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="cub",
            layouts=(
                SplitFolders(FOLDERS, {"train": 140, "validation": 50, "test": 50}),
                ClassFolder(("CUB_200_2011/images", "images")),
            ),
            shape=Shape("RGB", self.image_size or 84),
            archives=("CUB_200_2011.tgz", "CUB_200_2011.tar.gz"),
            md5={"CUB_200_2011.tgz": "97eceeb196236b17998738112f37df78"},
            reference={ALL: (200, 11788)},
            expected="CUB_200_2011/images/<class>/*, CUB_200_2011.tgz, or folders"
            " {train,val,test}/<class>/*",
        )
