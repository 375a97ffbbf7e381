"""FGVCx Fungi 2018, as Meta-Dataset uses it."""

from __future__ import annotations

from dataclasses import dataclass

from binomctl.images.layouts.folders import ClassFolder, SplitFolders
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.images.store import ALL
from binomctl.images.undivided import Undivided
from binomctl.options import plugin

FOLDERS = ("fungi", "Fungi")


@plugin
@dataclass(frozen=True)
class Fungi(Undivided):
    """Fungi: 1,394 species, 89,760 images, 84x84 RGB; 994 train, 200 validate, 200 test."""

    counts = (994, 200, 200)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="fungi",
            layouts=(
                SplitFolders(FOLDERS, {"train": 994, "validation": 349, "test": 349}),
                ClassFolder(("fungi/images", "images")),
            ),
            shape=Shape("RGB", self.image_size or 84),
            archives=("fungi_train_val.tgz",),
            reference={ALL: (1394, 89760)},
            expected="images/<class>/*, fungi_train_val.tgz, or folders {train,val,test}/<class>/*",
        )
