"""What a record in a pickle says: which rows of which images belong to which class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from binomctl.errors import DamagedFile, DataError
from binomctl.files.pickles.plain_values import text
from binomctl.files.pickles.unpickle import PickleFile
from binomctl.images.layouts.arrays import checked_images
from binomctl.images.sources import Rows

_SYNSET = re.compile(r"n\d{8}$")
KEYS = ("image_data", "class_dict", "data", "labels")


def record_of(file: PickleFile) -> dict[str, Any]:
    if not isinstance(file.data, dict):
        raise DataError(
            f"{file.path} holds a {type(file.data).__name__}, expected a dictionary of images and"
            " labels"
        )
    return {text(key): value for key, value in file.data.items()}


def classes_of(split: str, file: PickleFile) -> list[tuple[str, Rows]]:
    record = record_of(file)
    if "image_data" in record and "class_dict" in record:
        images, classes = checked_images(record["image_data"], file.path), record["class_dict"]
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
        images = checked_images(record["data"], file.path)
        return _by_label(split, images, record["labels"], None, file.path)
    raise DataError(
        f"{file.path} holds {', '.join(sorted(record)) or 'nothing'}; expected image_data and"
        " class_dict, or data and labels"
    )


def labelled(split: str, images: Any, file: PickleFile, path: Path) -> list[tuple[str, Rows]]:
    record = record_of(file)
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


def tell_apart(splits: dict[str, list[tuple[str, Rows]]]) -> None:
    """Number classes by split where every split numbers its own from 0."""
    numbered = {s: {n for n, _ in named} for s, named in splits.items()}
    if all("0" in names and all(n.isdigit() for n in names) for names in numbered.values()):
        for split, named in splits.items():
            splits[split] = [(f"{split} {n}", rows) for n, rows in named]


@contextmanager
def sound(path: Path) -> Iterator[None]:
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
