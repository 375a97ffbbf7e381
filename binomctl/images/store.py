"""The prepared form of an image data set: one memory-mapped array and an index.

A folder with images.npy, uint8 [N, H, W, C], the images of a class next to one another, and
index.json, which says what is where and where it came from. Opening it reads the index alone; the
pixels are pages of one file that all processes share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binomctl.errors import DamagedFile, DataError
from binomctl.files.small import read_object
from binomctl.words import number_of

SCHEMA = "binomctl/images/1"
SPLITS = ("train", "validation", "test")
IMAGES, INDEX = "images.npy", "index.json"
ALL = "all"
"""The split of classes that the files do not divide."""


@dataclass(frozen=True)
class ClassInfo:
    """One class: its images are rows start .. start + count - 1; sha256 of their bytes."""

    name: str
    start: int
    count: int
    sha256: str = ""


@dataclass(frozen=True)
class Index:
    """What a prepared data set holds and what it was made from.

    shape [H, W, C]; splits: the classes by split; sources: file, bytes and, where it is a single
    file and no folder, sha256; made: what was done to the pixels (size, mode, inversion); left_out:
    what lay among the images and was not taken, in words.
    """

    name: str
    layout: str
    shape: tuple[int, int, int]
    splits: Mapping[str, tuple[ClassInfo, ...]]
    sources: tuple[Mapping[str, Any], ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The number of images, N."""
        return sum(c.count for classes in self.splits.values() for c in classes)

    def to_json(self) -> dict[str, Any]:
        told = asdict(self)
        if not self.left_out:  # versions before 0.2 do not know it
            del told["left_out"]
        return {"schema": SCHEMA, **told}


@dataclass(frozen=True, eq=False)
class Store:
    """An open data set: `images` [N, H, W, C] is mapped from the file, read-only."""

    path: Path
    index: Index
    images: NDArray[np.uint8]


class NotPrepared(DataError):
    """There is no prepared data set at the place."""


def is_store(path: Path) -> bool:
    """Whether a folder is a prepared data set, or was meant to be one."""
    return (path / INDEX).is_file() and (path / IMAGES).is_file()


def open_store(path: Path) -> Store:
    """Open a prepared data set; processes that open the same one share its memory.

    Raises:
        NotPrepared: there is none.
        DataError: the index or the array is damaged, or of another version.
    """
    file = path / INDEX
    if not is_store(path):
        raise NotPrepared(f"no prepared data set at {path}")
    images = path / IMAGES
    changed = [p.stat().st_mtime_ns if p.is_file() else 0 for p in (file, images)]
    return _open(path, *changed)


@lru_cache(maxsize=16)
def _open(path: Path, *_: int) -> Store:
    try:
        raw = read_object(path / INDEX)
        schema = raw.pop("schema")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(path, f"{INDEX} is not readable ({error})") from error
    if schema != SCHEMA:
        raise DataError(
            f"{path} has schema '{schema}', this version reads '{SCHEMA}'",
            "Prepare the data set again.",
        )
    try:
        splits = {s: tuple(ClassInfo(**c) for c in cs) for s, cs in raw.pop("splits").items()}
        raw["left_out"] = tuple(raw.get("left_out", ()))
        index = Index(splits=splits, **{**raw, "shape": tuple(raw["shape"])})
        _check_classes(index)
        images = np.load(path / IMAGES, mmap_mode="r", allow_pickle=False)
        shape = (index.total, *index.shape)
    except Exception as error:  # numpy reads the header of an array with Python's own parser
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if images.dtype != np.uint8 or images.shape != shape:
        raise _damaged(
            path,
            f"{IMAGES} is {images.dtype} {list(images.shape)}, {INDEX} says uint8 {list(shape)}",
        )
    return Store(path, index, images.view(np.ndarray))


def _check_classes(index: Index) -> None:
    """Refuse classes whose rows are none of the array's."""
    for split, classes in index.splits.items():
        for c in classes:
            numbers = (c.start, c.count)
            if not all(type(n) is int and 0 <= n <= index.total for n in numbers) or not (
                isinstance(c.name, str) and isinstance(c.sha256, str)
            ):
                raise ValueError(f"a class of split '{split}' is {c}")


def _damaged(path: Path, what: str) -> DamagedFile:
    return DamagedFile(
        f"the prepared data set {path} is damaged: {what}",
        "Delete the folder and run 'binomctl data prepare' again.",
        path,
    )


def verify(
    store: Store,
    reference: Mapping[str, tuple[int, int]],
    per_class: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[list[str], list[str]]:
    """Check a prepared data set: (what is broken, how it differs from the published one).

    Broken: pixels that are not those that were prepared, a class or the very same images in two
    splits, sources that are others now. `reference`: classes and images by split; per_class: the
    images of every class.
    """
    broken = [f"{file} has changed since it was prepared" for file in changed_sources(store)]
    contents: dict[str, str] = {}
    for split, classes in store.index.splits.items():
        for c in classes:
            found = digest(store.images[c.start : c.start + c.count])
            progress(c.count)
            where = f"class '{c.name}' of split '{split}'"
            if found != c.sha256:
                broken.append(f"{where}: its images are not those that were prepared")
            elif found in contents:
                broken.append(f"{where} has the very same images as {contents[found]}")
            contents.setdefault(found, where)
    broken += overlaps({s: [c.name for c in cs] for s, cs in store.index.splits.items()})
    differs = []
    for split, (classes_wanted, images_wanted) in reference.items():
        have = store.index.splits.get(split, ())
        if split == ALL:  # nothing is published but how many there are
            have = tuple(c for classes in store.index.splits.values() for c in classes)
        n = sum(c.count for c in have)
        if (len(have), n) != (classes_wanted, images_wanted):
            differs.append(
                f"{split}: {len(have)} classes and {n:,} images, the published data set has"
                f" {classes_wanted} and {images_wanted:,}"
            )
        odd = [c for c in have if per_class is not None and c.count != per_class]
        if odd:
            more = f" and {len(odd) - 1} other classes" if len(odd) > 1 else ""
            differs.append(
                f"{split}: class '{odd[0].name}' has {odd[0].count} images{more}, the published"
                f" data set has {per_class} in every class"
            )
    return broken, differs


def changed_sources(store: Store) -> list[str]:
    """The files and folders a store was made of that are others now; those that are gone are not
    among them."""
    return [
        s["file"]
        for s in store.index.sources
        if Path(s["file"]).exists() and fingerprint(Path(s["file"])) != s["fingerprint"]
    ]


def fingerprint(source: Path) -> str:
    """What tells whether a file, or any file of a folder, is still the same: sizes and times."""
    sha = hashlib.sha256()
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    for file in files:
        if file.is_file() and "prepared" not in file.relative_to(source).parts[:1]:
            about = file.stat()
            sha.update(f"{file.relative_to(source)} {about.st_size} {about.st_mtime_ns}\n".encode())
    return sha.hexdigest()


def overlaps(names: Mapping[str, list[str]]) -> list[str]:
    """A line for every two splits that share classes."""
    found = []
    listed = list(names)
    for i, a in enumerate(listed):
        for b in listed[i + 1 :]:
            if shared := sorted(set(names[a]) & set(names[b])):
                more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
                found.append(
                    f"splits '{a}' and '{b}' share {number_of(len(shared), 'class')}:"
                    f" {', '.join(shared[:3])}{more}"
                )
    return found


def digest(images: NDArray[np.uint8]) -> str:
    """sha256 of the bytes of some images."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
