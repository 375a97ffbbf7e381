"""miniImageNet (Vinyals et al. 2016), in the splits of Ravi & Larochelle 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from binomctl.images.fewshot import FewShotImages
from binomctl.images.layouts.folders import SplitFolders
from binomctl.images.layouts.listed import CsvTables
from binomctl.images.layouts.pickled import Pickles
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.options import plugin

FOLDERS = ("mini-imagenet", "miniimagenet", "miniImageNet", "mini_imagenet")
CACHE = "mini-imagenet-cache-{}.pkl"
CLASSES = {"train": 64, "validation": 16, "test": 20}
METAOPTNET = "miniImageNet_category_split_{}.pickle"


def _files(pattern: str, train: str, middle: str) -> dict[str, str]:
    names = {"train": train, "validation": middle, "test": "test"}
    return {split: pattern.format(name) for split, name in names.items()}


@plugin
@dataclass(frozen=True)
class MiniImageNet(FewShotImages):
    """miniImageNet: 100 classes of 600 images, 84x84 RGB; 64 train, 16 validate, 20 test."""

    learn2learn: ClassVar[str] = "MiniImagenet"

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="mini-imagenet",
            layouts=(
                Pickles("learn2learn", _files(CACHE, "train", "validation"), FOLDERS),
                Pickles("Ren et al., torchmeta", _files(CACHE, "train", "val"), FOLDERS),
                Pickles("MetaOptNet", _files(METAOPTNET, "train_phase_train", "val"), FOLDERS),
                SplitFolders(FOLDERS, CLASSES, synsets=True),
                CsvTables(_files("{}.csv", "train", "val"), folders=FOLDERS),
            ),
            shape=Shape("RGB", self.image_size or 84),
            archives=("mini-imagenet.tar.gz", "miniImageNet.tar.gz", "miniImagenet.zip"),
            md5={"mini-imagenet.tar.gz": "b38f1eb4251fb9459ecc8e7febf9b2eb"},
            per_class=600,
            reference={"train": (64, 38400), "validation": (16, 9600), "test": (20, 12000)},
            expected="mini-imagenet-cache-{train,validation or val,test}.pkl,"
            " mini-imagenet.tar.gz,"
            " miniImageNet_category_split_{train_phase_train,val,test}.pickle, folders"
            " {train,val,test}/<class>/*, or images/* with {train,val,test}.csv",
        )
