"""FC100 (Oreshkin et al. 2018): CIFAR-100 split by superclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from binomctl.images.fewshot import FewShotImages
from binomctl.images.layouts.folders import SplitFolders
from binomctl.images.layouts.pickled import Pickles
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.options import plugin

CLASSES = {"train": 60, "validation": 20, "test": 20}
FOLDERS = ("FC100", "fc100")
FILES = {
    "train": "FC100_train.pickle",
    "validation": "FC100_val.pickle",
    "test": "FC100_test.pickle",
}


@plugin
@dataclass(frozen=True)
class FC100(FewShotImages):
    """FC100: 100 classes of 600 images, 32x32 RGB; 60 train, 20 validate, 20 test."""

    learn2learn: ClassVar[str] = "FC100"

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="fc100",
            layouts=(
                Pickles("MetaOptNet, learn2learn", FILES, FOLDERS),
                SplitFolders(FOLDERS, CLASSES),
            ),
            shape=Shape("RGB", self.image_size or 32),
            per_class=600,
            archives=("fc100.zip", "FC100.zip"),
            reference={"train": (60, 36000), "validation": (20, 12000), "test": (20, 12000)},
            expected="FC100_{train,val,test}.pickle, fc100.zip, or folders"
            " {train,val,test}/<class>/*",
        )
