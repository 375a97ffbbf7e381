"""Layouts that keep a split in a pickle or an array file. None of them is ever unpickled by
Python; see binomctl/files/pickles/unpickle.py."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from binomctl.errors import DamagedFile, DataError, ResourceError
from binomctl.files.archives import MAX_RATIO
from binomctl.files.atomic import disk_full
from binomctl.files.pickles.plain_values import text
from binomctl.files.pickles.unpickle import PickleFile, read_pickle
from binomctl.images.sources import Missing, Rows, Source, SourceClass, places_to_look

_SYNSET = re.compile(r"n\d{8}$")


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
            with _sound(file.path):
                splits[split] = _classes(split, file)
        _tell_apart(splits)
        keys = " and ".join(k for k in _record(next(iter(opened.values()))) if k in _KEYS)
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
                images = _member(path, "images")
            else:
                opened.append(read_pickle(path))
                images = opened[-1].data
            named = read_pickle(labels)
            opened.append(named)
            with _sound(labels):
                splits[split] = _labelled(split, images, named, path)
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


_KEYS = ("image_data", "class_dict", "data", "labels")


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


def _record(file: PickleFile) -> dict[str, Any]:
    if not isinstance(file.data, dict):
        raise DataError(
            f"{file.path} holds a {type(file.data).__name__}, expected a dictionary of images and"
            " labels"
        )
    return {text(key): value for key, value in file.data.items()}


def _classes(split: str, file: PickleFile) -> list[tuple[str, Rows]]:
    record = _record(file)
    if "image_data" in record and "class_dict" in record:
        images, classes = _images(record["image_data"], file.path), record["class_dict"]
        if not isinstance(classes, dict):
            raise DataError(f"{file.path}: class_dict is a {type(classes).__name__}")
        named = [
            (text(name), Rows(images, _rows(rows, len(images), file.path)))
            for name, rows in classes.items()
        ]
        if sum(len(rows) for _, rows in named) > len(images):
            raise DataError(f"{file.path}: class_dict names images more than once")
        return named
    if "data" in record and "labels" in record:
        images = _images(record["data"], file.path)
        return _by_label(split, images, record["labels"], None, file.path)
    raise DataError(
        f"{file.path} holds {', '.join(sorted(record)) or 'nothing'}; expected image_data and"
        " class_dict, or data and labels"
    )


def _images(images: Any, path: Path) -> Any:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        what = (
            f"{images.dtype} {list(images.shape)}"
            if isinstance(images, np.ndarray)
            else (type(images).__name__)
        )
        raise DataError(f"{path}: the images are {what}, expected uint8 [N, H, W, 3]")
    return images


def _labelled(split: str, images: Any, file: PickleFile, path: Path) -> list[tuple[str, Rows]]:
    record = _record(file)
    for key in ("label_specific", "labels"):
        if key in record:
            return _by_label(split, images, record[key], record.get(f"{key}_str"), path)
    raise DataError(
        f"{file.path} holds {', '.join(sorted(record)) or 'nothing'}; expected label_specific"
    )


def _by_label(
    split: str, images: Any, labels: Any, names: Any, path: Path
) -> list[tuple[str, Rows]]:
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iuSU":
        labels = labels.ravel().tolist()
    elif not isinstance(labels, list):
        raise TypeError(f"labels are a {type(labels).__name__}")
    labels = [int(v) if isinstance(v, np.integer) else v for v in labels]
    labels = [text(v) if isinstance(v, bytes) else v for v in labels]
    if {type(v) for v in labels} not in ({int}, {str}):
        raise TypeError("labels are neither all numbers nor all names")
    if len(labels) != len(images):
        raise DataError(f"{path}: {len(images):,} images, but {len(labels):,} labels")
    if not hasattr(images, "__len__"):
        raise TypeError(f"images are a {type(images).__name__}")
    rows: dict[Any, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return [(_name(split, label, names), Rows(images, rows[label])) for label in sorted(rows)]


def _name(split: str, label: Any, names: Any) -> str:
    """A class by its synset where there is one. Words are shared between classes (there are two
    cranes in ImageNet), numbers may start anew in each split, so both get what tells them apart."""
    if names is None or not isinstance(label, int) or label >= len(names):
        return str(label)
    word = text(names[label])
    return word if _SYNSET.match(word) else f"{word} ({split} {label})"


def _tell_apart(splits: dict[str, list[tuple[str, Rows]]]) -> None:
    """Number classes by split where every split numbers its own from 0."""
    numbered = {s: {n for n, _ in named} for s, named in splits.items()}
    if all("0" in names and all(n.isdigit() for n in names) for names in numbered.values()):
        for split, named in splits.items():
            splits[split] = [(f"{split} {n}", rows) for n, rows in named]


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Word what a file's contents may do to code that expects others."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DamagedFile(
            f"{path} does not hold what it should: {str(error)[:200]}", "Fetch it again.", path
        ) from error


def _rows(rows: Iterable[Any], n: int, path: Path) -> list[int]:
    listed = [int(r) for r in rows]
    if any(not 0 <= r < n for r in listed):
        raise DataError(f"{path}: class_dict names image {max(listed)}, there are {n}")
    return listed


def _member(path: Path, name: str) -> Any:
    """An array of an .npz, mapped where it lies uncompressed; written to a temporary file without
    a name and mapped from there otherwise."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.file_size > MAX_RATIO * max(info.compress_size, 2**16):
                raise ValueError(f"{info.compress_size:,} bytes become {info.file_size:,}")
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
                shape, fortran, dtype = read(stream)
                if dtype != np.uint8:
                    raise ValueError(f"values of type {dtype}")
                header = stream.tell()
                if info.compress_type != zipfile.ZIP_STORED:
                    order: Any = "F" if fortran else "C"
                    with disk_full(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as kept:
                        shutil.copyfileobj(stream, kept, 2**22)
                        kept.flush()  # the map keeps the file alive
                        return _images(np.memmap(kept, dtype, "r", 0, shape, order), path)
        # The local header's name and extra field may differ in length from the directory's.
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
            start = info.header_offset + 30 + int(lengths.sum()) + header
        order = "F" if fortran else "C"
        return _images(np.memmap(path, dtype, "r", start, shape, order), path)
    except ResourceError:
        raise
    except Exception as error:  # headers of arrays and archives fail in many ways
        raise DamagedFile(
            f"{path} is damaged or has no array '{name}' ({str(error)[:200]})",
            "Fetch it again.",
            path,
        ) from error
