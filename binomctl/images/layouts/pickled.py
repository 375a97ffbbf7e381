"""Layouts that keep a split in a pickle or an array file. None of them is ever unpickled by
Python; see binomctl/files/pickles/unpickle.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from binomctl.files.pickles.unpickle import PickleFile, read_pickle
from binomctl.images.layouts.arrays import member
from binomctl.images.layouts.records import (
    KEYS,
    classes_of,
    labelled,
    record_of,
    sound,
    tell_apart,
)
from binomctl.images.sources import Missing, Rows, Source, SourceClass, places_to_look


@dataclass(frozen=True)
class Pickles:
    """One pickle a split. What is in it tells how it is read: {image_data, class_dict} as
    learn2learn, Ren et al. and torchmeta write it, {data, labels} as MetaOptNet and FC100 do.

    files: the file's name by split; folders: sub-folders to look in besides the root.
    """

    owner: str
    files: Mapping[str, str]
    folders: tuple[str, ...] = ()

    def find(self, root: Path) -> Source | None:
        found = find_files(root, self.files, self.folders)
        if found is None:
            return None
        opened = {split: read_pickle(path) for split, path in found.items()}
        splits = {}
        for split, file in opened.items():
            with sound(file.path):
                splits[split] = classes_of(split, file)
        tell_apart(splits)
        keys = " and ".join(k for k in record_of(next(iter(opened.values()))) if k in KEYS)
        return Source(
            f"{self.owner}: pickles of {keys}",
            {s: [SourceClass(n, i, found[s]) for n, i in named] for s, named in splits.items()},
            list(found.values()),
            release=_release(list(opened.values())),
        )


@dataclass(frozen=True)
class LabelledImages:
    """Images in one file and labels in another, as tieredImageNet comes: {split}_labels.pkl beside
    {split}_images_png.pkl (a list of PNG files), or beside {split}_images.npz (blue first)."""

    owner: str
    images: Mapping[str, str]
    labels: Mapping[str, str]
    folders: tuple[str, ...] = ()
    bgr: bool = False

    def find(self, root: Path) -> Source | None:
        found = find_files(root, self.images, self.folders)
        if found is None:
            return None
        splits: dict[str, list[tuple[str, Rows]]] = {}
        files: list[Path] = []
        opened: list[PickleFile] = []
        for split, path in found.items():
            labels = path.with_name(self.labels[split])
            if not labels.is_file():
                raise Missing(
                    f"{path} is there, but {labels.name} with its labels is not",
                    f"Put it at {labels}.",
                )
            if path.suffix == ".npz":
                images = member(path, "images")
            else:
                opened.append(read_pickle(path))
                images = opened[-1].data
            named = read_pickle(labels)
            opened.append(named)
            with sound(labels):
                splits[split] = labelled(split, images, named, path)
            files += [path, labels]
        return Source(
            self.owner,
            {s: [SourceClass(n, i, found[s]) for n, i in named] for s, named in splits.items()},
            files,
            bgr=self.bgr,
            release=_release(opened),
        )


def _release(files: Sequence[PickleFile]) -> Callable[[], None]:
    def release() -> None:
        for file in files:
            file.release()

    return release


def find_files(
    root: Path, names: Mapping[str, str], folders: Sequence[str]
) -> dict[str, Path] | None:
    """A file for every split, all in one folder; None where there is none of them.

    Raises:
        Missing: some splits are there and some are not.
    """
    best: dict[str, Path] = {}
    for folder in places_to_look(root, folders):
        found = {s: folder / name for s, name in names.items() if (folder / name).is_file()}
        if len(found) == len(names):
            return found
        best = max(best, found, key=len)
    if not best:
        return None
    here = next(iter(best.values())).parent
    missing = [name for s, name in names.items() if s not in best]
    raise Missing(
        f"{here} has {', '.join(p.name for p in best.values())}, but not {', '.join(missing)}",
        "Put the missing split beside it.",
    )
