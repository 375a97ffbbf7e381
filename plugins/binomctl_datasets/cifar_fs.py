"""CIFAR-FS (Bertinetto et al. 2019): CIFAR-100 split at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from binomctl.images.fewshot import FewShotImages
from binomctl.images.layouts.folders import ListedClasses, SplitFolders
from binomctl.images.layouts.pickled import Pickles
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.options import plugin

FOLDERS = ("cifar100", "cifarfs", "CIFAR-FS", "cifar-fs", "CIFAR_FS", "processed")
CLASSES = {"train": 64, "validation": 16, "test": 20}
NAMES = {"train": "train", "validation": "val", "test": "test"}


@plugin
@dataclass(frozen=True)
class CIFARFS(FewShotImages):
    """CIFAR-FS: 100 classes of 600 images, 32x32 RGB; 64 train, 16 validate, 20 test."""

    learn2learn: ClassVar[str] = "CIFARFS"

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="cifar-fs",
            layouts=(
                ListedClasses(
                    "data",
                    {s: f"splits/bertinetto/{n}.txt" for s, n in NAMES.items()},
                    FOLDERS,
                ),
                Pickles(
                    "MetaOptNet", {s: f"CIFAR_FS_{n}.pickle" for s, n in NAMES.items()}, FOLDERS
                ),
                SplitFolders(FOLDERS, CLASSES),
            ),
            shape=Shape("RGB", self.image_size or 32),
            per_class=600,
            archives=("cifarfs.zip", "cifar100.zip", "CIFAR_FS.zip"),
            reference={"train": (64, 38400), "validation": (16, 9600), "test": (20, 12000)},
            expected="cifar100/data/<class>/* with cifar100/splits/bertinetto/{train,val,test}.txt,"
            " CIFAR_FS_{train,val,test}.pickle, cifarfs.zip, or folders {train,val,test}/<class>/*",
        )
