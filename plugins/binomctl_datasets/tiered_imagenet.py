"""tieredImageNet (Ren et al. 2018): classes split by their categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from binomctl.images.fewshot import FewShotImages
from binomctl.images.layouts.folders import SplitFolders
from binomctl.images.layouts.pickled import LabelledImages
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.options import plugin

CLASSES = {"train": 351, "validation": 97, "test": 160}
FOLDERS = ("tiered-imagenet", "tiered_imagenet", "tieredImageNet", "tieredimagenet")


def _files(ending: str) -> dict[str, str]:
    names = {"train": "train", "validation": "val", "test": "test"}
    return {split: f"{name}_{ending}" for split, name in names.items()}


@plugin
@dataclass(frozen=True)
class TieredImageNet(FewShotImages):
    """tieredImageNet: 608 classes, 779,165 images, 84x84 RGB; 351 train, 97 validate, 160 test."""

    learn2learn: ClassVar[str] = "TieredImagenet"

    @property
    def recipe(self) -> Recipe:
        labels = _files("labels.pkl")
        return Recipe(
            name="tiered-imagenet",
            layouts=(
                LabelledImages(
                    "learn2learn, Ren et al.: pickled lists of PNG files",
                    _files("images_png.pkl"), labels, FOLDERS,
                ),
                LabelledImages(
                    "Ren et al.: arrays of BGR pixels", _files("images.npz"), labels, FOLDERS,
                    bgr=True,
                ),
                SplitFolders(FOLDERS, CLASSES, synsets=True),
            ),
            shape=Shape("RGB", self.image_size or 84),
            archives=("tiered-imagenet.tar", "tiered_imagenet.tar", "tiered-imagenet.tar.gz"),
            md5={"tiered-imagenet.tar": "e07e811b9f29362d159a9edd0d838c62"},
            reference={
                "train": (351, 448_695), "validation": (97, 124_261), "test": (160, 206_209),
            },
            expected="tiered-imagenet/{train,val,test}_images_png.pkl (or _images.npz) with"
            " {train,val,test}_labels.pkl, tiered-imagenet.tar, or folders"
            " {train,val,test}/<class>/*",
        )  # fmt: skip
