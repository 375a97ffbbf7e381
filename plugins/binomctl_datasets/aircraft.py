"""FGVC-Aircraft (Maji et al. 2013), by variants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from binomctl.images.layouts.folders import SplitFolders
from binomctl.images.layouts.listed import by_class
from binomctl.images.layouts.records import sound
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Cropped, Missing, Shape, Source, SourceClass, places_to_look
from binomctl.images.store import ALL
from binomctl.images.undivided import Undivided
from binomctl.options import plugin

FOLDERS = ("fgvc-aircraft-2013b", "aircraft")


@plugin
@dataclass(frozen=True)
class Aircraft(Undivided):
    """Aircraft: 100 variants of 100 images, 84x84 RGB; 70 train, 15 validate, 15 test."""

    counts = (70, 15, 15)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="aircraft",
            layouts=(
                SplitFolders(FOLDERS, {"train": 70, "validation": 25, "test": 25}),
                VariantLists(),
            ),
            shape=Shape("RGB", self.image_size or 84),
            archives=("fgvc-aircraft-2013b.tar.gz",),
            md5={"fgvc-aircraft-2013b.tar.gz": "d4acdd33327262359767eeaa97a4f732"},
            per_class=100,
            reference={ALL: (100, 10000)},
            expected="fgvc-aircraft-2013b/data/images/*.jpg with images_variant_{trainval,test}.txt"
            " and images_box.txt, its tar.gz, or folders {train,val,test}/<class>/*",
        )


@dataclass(frozen=True)
class VariantLists:
    """data/images/*.jpg, the variant of each in two lists, and the box that the aircraft is in.

    Pictures are cut to their boxes, as Meta-Dataset does: the lowest pixels of the files name the
    photographer, and some files show two aircraft.
    """

    def find(self, root: Path) -> Source | None:
        for folder in places_to_look(root, FOLDERS):
            data = folder / "data"
            lists = [data / f"images_variant_{part}.txt" for part in ("trainval", "test")]
            boxes = data / "images_box.txt"
            if not any(path.is_file() for path in lists):
                continue
            for path in (*lists, boxes, data / "images"):
                if not path.exists():
                    raise Missing(f"{folder} is FGVC-Aircraft, but has no {path}")
            with sound(boxes):
                box_of = {name: _box(rest) for name, rest in _lines(boxes)}
            pairs = []
            for path in lists:
                with sound(path):
                    pairs += [(f"{name}.jpg", variant) for name, variant in _lines(path)]
            classes = by_class(pairs, data / "images", data)
            with sound(boxes):
                cropped = [_cropped(c, box_of) for c in classes]
            layout = "FGVC-Aircraft: data/images/*.jpg, cut to their boxes"
            return Source(layout, {ALL: cropped}, [*lists, boxes, data / "images"])
        return None


def _lines(path: Path) -> list[tuple[str, str]]:
    """The first word of every line and the rest of it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1].strip()) for line in lines if line
    ]


def _box(text: str) -> tuple[int, int, int, int]:
    """The file counts pixels from 1 and means the last one too."""
    left, upper, right, lower = map(int, text.split())
    return left - 1, upper - 1, right, lower


def _cropped(owner: SourceClass, box_of: dict[str, tuple[int, int, int, int]]) -> SourceClass:
    return replace(owner, images=[Cropped(p, box_of[p.stem]) for p in owner.images])
