"""Layouts that keep every image in a file of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from binomctl.errors import DataError
from binomctl.images.sources import (
    Missing,
    Source,
    SourceClass,
    class_folders,
    images_in,
    places_to_look,
)
from binomctl.images.store import ALL

SPLIT_NAMES = {
    "train": ("train", "meta_train", "meta-train", "base"),
    "validation": ("val", "validation", "valid", "meta_val", "meta-val"),
    "test": ("test", "meta_test", "meta-test", "novel"),
}
SYNSET = re.compile(r"n\d{8}$")


@dataclass(frozen=True)
class SplitFolders:
    """{train,val,test}/<class>/*; the middle one may be called val, valid or validation.

    folders: sub-folders of such a name are taken as they are. The root itself may hold any data
    set, so it is taken only where it fits: no more classes in a split than `most`, and names that
    are synsets, or exactly so many classes. most None: any.
    """

    folders: tuple[str, ...] = ()
    most: Mapping[str, int] | None = None
    synsets: bool = False

    def find(self, root: Path) -> Source | None:
        for folder in places_to_look(root, self.folders):
            inside = {p.name.lower(): p for p in folder.iterdir() if p.is_dir()}
            found = {
                split: next((inside[n] for n in names if n in inside), None)
                for split, names in SPLIT_NAMES.items()
            }
            splits = {s: class_folders(p) for s, p in found.items() if p is not None}
            splits = {s: classes for s, classes in splits.items() if classes}
            if not splits or (folder == root and not self._fits(splits)):
                continue
            if missing := [SPLIT_NAMES[s][0] for s in found if s not in splits]:
                present = [p.name for s, p in found.items() if p is not None and s in splits]
                raise Missing(
                    f"{folder} has {', '.join(present)}, but no folder {', '.join(missing)} with"
                    " classes in it",
                    "Put the missing split beside it.",
                )
            used = [p for p in found.values() if p is not None]
            return Source("folders: {train,val,test}/<class>/*", splits, used)
        return None

    def _fits(self, splits: Mapping[str, Sequence[SourceClass]]) -> bool:
        if self.most is None:
            return True
        counts = {s: len(classes) for s, classes in splits.items()}
        if counts == dict(self.most):
            return True
        names = [c.name for classes in splits.values() for c in classes]
        few = all(n <= self.most[s] for s, n in counts.items())
        return self.synsets and few and all(SYNSET.match(n) for n in names)


@dataclass(frozen=True)
class ListedClasses:
    """One folder of classes, and a text file a split with the names of its classes; `data` and
    `lists` are paths under the folder, lists by split."""

    data: str
    lists: Mapping[str, str]
    folders: tuple[str, ...] = ()

    def find(self, root: Path) -> Source | None:
        for folder in places_to_look(root, self.folders):
            data = folder / self.data
            lists = {s: folder / p for s, p in self.lists.items()}
            if not data.is_dir() or not any(p.is_file() for p in lists.values()):
                continue
            splits = {s: self._listed(data, path) for s, path in lists.items()}
            layout = (
                f"folder of classes with lists: {self.data}, {Path(lists['train']).parent.name}"
            )
            return Source(layout, splits, [data, *lists.values()])
        return None

    @staticmethod
    def _listed(data: Path, path: Path) -> list[SourceClass]:
        try:
            names = [n.strip() for n in path.read_text(encoding="utf-8").splitlines() if n.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        for name in names:
            if Path(name).name != name or not (data / name).is_dir():
                raise DataError(f"{path} names class '{name}', which {data} does not have")
        return [SourceClass(n, images_in(data / n), data / n) for n in names]


@dataclass(frozen=True)
class ClassFolder:
    """One folder with a sub-folder a class; how the classes are split is said elsewhere. folders:
    what it may be called under the root; none: the root itself."""

    folders: tuple[str, ...] = ()

    def find(self, root: Path) -> Source | None:
        for folder in places_to_look(root, self.folders)[1:] if self.folders else [root]:
            classes = class_folders(folder)
            if len(classes) == 1:
                raise Missing(f"{folder} has one folder of images, {classes[0].name}: one class")
            if classes:
                return Source("one folder of classes", {ALL: classes}, [folder])
        return None


@dataclass(frozen=True)
class NestedFolders:
    """Groups of classes of groups: {part}/<group>/<class>/*, as Omniglot's alphabets; the class's
    name is group/class, and every part stays a split of its own."""

    parts: Mapping[str, str]
    folders: tuple[str, ...] = ()

    def find(self, root: Path) -> Source | None:
        for folder in places_to_look(root, self.folders):
            found = {part: folder / name for part, name in self.parts.items()}
            present = [p for p in found.values() if p.is_dir()]
            if not present:
                continue
            if missing := [str(p) for p in found.values() if not p.is_dir()]:
                raise Missing(
                    f"{folder} has {', '.join(p.name for p in present)}, but not"
                    f" {', '.join(missing)}"
                )
            splits = {part: self._classes(path) for part, path in found.items()}
            return Source(f"folders: {{{','.join(self.parts.values())}}}/<group>/<class>/*",
                          splits, present)  # fmt: skip
        return None

    @staticmethod
    def _classes(path: Path) -> Sequence[SourceClass]:
        return [
            SourceClass(f"{group.name}/{c.name}", c.images, c.where)
            for group in sorted(path.iterdir())
            if group.is_dir() and not group.name.startswith(".")
            for c in class_folders(group)
        ]
