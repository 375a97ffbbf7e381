"""Describable Textures (Cimpoi et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass

from binomctl.images.layouts.folders import ClassFolder, SplitFolders
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.images.store import ALL
from binomctl.images.undivided import Undivided
from binomctl.options import plugin

FOLDERS = ("dtd",)


@plugin
@dataclass(frozen=True)
class Textures(Undivided):
    """Textures: 47 classes of 120 images, 84x84 RGB; 33 train, 7 validate, 7 test."""

    counts = (33, 7, 7)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="textures",
            layouts=(
                SplitFolders(FOLDERS, {"train": 33, "validation": 12, "test": 12}),
                ClassFolder(("dtd/images", "images")),
            ),
            shape=Shape("RGB", self.image_size or 84),
            archives=("dtd-r1.0.1.tar.gz", "dtd-r1.0.tar.gz"),
            md5={"dtd-r1.0.1.tar.gz": "fff73e5086ae6bdbea199a49dfb8a4c1"},
            per_class=120,
            reference={ALL: (47, 5640)},
            expected="dtd/images/<class>/*, dtd-r1.0.1.tar.gz, or folders"
            " {train,val,test}/<class>/*",
        )
