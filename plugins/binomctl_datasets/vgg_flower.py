"""Oxford 102 Flowers (Nilsback and Zisserman 2008)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from binomctl.images.layouts.folders import SplitFolders
from binomctl.images.layouts.listed import by_class
from binomctl.images.layouts.records import sound
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Missing, Shape, Source, places_to_look
from binomctl.images.store import ALL
from binomctl.images.undivided import Undivided
from binomctl.options import plugin

FOLDERS = ("VGGFlower", "vgg_flower", "flowers-102")


@plugin
@dataclass(frozen=True)
class VGGFlower(Undivided):
    """VGG Flower: 102 flowers, 8,189 images, 84x84 RGB; 71 train, 15 validate, 16 test."""

    counts = (71, 15, 16)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="vgg-flower",
            layouts=(
                SplitFolders(FOLDERS, {"train": 71, "validation": 26, "test": 26}),
                NumberedFlowers(),
            ),
            shape=Shape("RGB", self.image_size or 84),
            archives=("102flowers.tgz",),
            md5={"102flowers.tgz": "52808999861908f626f3c1f4e79d11fa"},
            reference={ALL: (102, 8189)},
            expected="jpg/image_*.jpg with imagelabels.mat, or folders {train,val,test}/<class>/*",
        )


@dataclass(frozen=True)
class NumberedFlowers:
    """jpg/image_00001.jpg on, and a MATLAB file with the class, from 1, of each in order."""

    def find(self, root: Path) -> Source | None:
        from scipy.io import loadmat

        for folder in places_to_look(root, FOLDERS):
            table, images = folder / "imagelabels.mat", folder / "jpg"
            if not table.is_file() and not images.is_dir():
                continue
            for path in (table, images):
                if not path.exists():
                    raise Missing(f"{folder} is VGG Flower, but has no {path}")
            with sound(table):
                labels = loadmat(table)["labels"].ravel().tolist()
                pairs = [(f"image_{i:05d}.jpg", f"{n:03d}") for i, n in enumerate(labels, start=1)]
            classes = by_class(pairs, images, table)
            return Source("jpg/*, imagelabels.mat", {ALL: classes}, [table, images])
        return None
