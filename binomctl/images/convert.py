"""Writes the pixels of a source into a store, class by class."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from binomctl.errors import DataError, ResourceError
from binomctl.files.atomic import disk_full
from binomctl.files.small import read_small
from binomctl.images.recipe import Recipe, made
from binomctl.images.sources import Shape, Source, SourceClass, pixels, place
from binomctl.images.store import IMAGES, ClassInfo, Index, fingerprint, overlaps

JOURNAL = "progress.jsonl"  # what a conversion is of, then a line for every class that is done
LONGEST = 2**26  # bytes of that file; 1,000 classes take 150,000
BLOCK = 512  # images decoded side by side


class Progress(Protocol):
    """Whoever wants to be told how a conversion is going."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, n: int) -> None: ...


class Silent:
    """Tells nobody."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, n: int) -> None: ...


def convert(recipe: Recipe, source: Source, partial: Path, progress: Progress) -> Index:
    """Write a source's images to `partial`, going on where an earlier conversion stopped.

    Raises:
        DataError: a class is in two splits or named twice, an image is damaged or of another size.
        ResourceError: the disk is too small.
    """
    _check_names(recipe, source)
    shape = _image_shape(recipe, source)
    total = sum(len(c.images) for classes in source.splits.values() for c in classes)
    listed = [(s, c.name, len(c.images)) for s, cs in source.splits.items() for c in cs]
    sources = [{"file": str(f), "fingerprint": fingerprint(f)} for f in source.files]
    header = {
        "sources": sources,
        "made": made(recipe),
        "shape": list(shape),
        "classes": hashlib.sha256(json.dumps(listed).encode()).hexdigest(),
    }
    done = _done(partial / JOURNAL, header)
    if not done:
        _begin(partial, header, (total, *shape))
    path = partial / IMAGES
    start, image = np.load(path, mmap_mode="r").offset, math.prod(shape)
    progress.start(f"{recipe.name}: {source.layout}", total)
    splits: dict[str, tuple[ClassInfo, ...]] = {}
    row = 0
    with (
        disk_full(path),
        path.open("r+b") as file,
        (partial / JOURNAL).open("a", encoding="utf-8") as journal,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for split, classes in source.splits.items():
            infos = []
            for owner in classes:
                known = done.get(f"{split}/{owner.name}")
                if known is None:
                    file.seek(start + row * image)
                    known = _write_class(owner, source, recipe.shape, shape, file, pool, progress)
                    file.flush()
                    os.fsync(file.fileno())
                    line = {"class": f"{split}/{owner.name}", "sha256": known}
                    journal.write(json.dumps(line) + "\n")
                    journal.flush()
                    source.release()
                else:
                    progress.advance(len(owner.images))
                infos.append(ClassInfo(owner.name, row, len(owner.images), known))
                row += len(owner.images)
            splits[split] = tuple(infos)
    _same_images(recipe, splits)
    hashed = tuple(_hashed(recipe, entry, progress) for entry in sources)
    return Index(recipe.name, source.layout, shape, splits, hashed, made(recipe))


def _check_names(recipe: Recipe, source: Source) -> None:
    """Refuse a class in two splits, one that is named twice, a split without any."""
    names = {split: [c.name for c in classes] for split, classes in source.splits.items()}
    if found := overlaps(names):
        raise DataError(
            f"{recipe.name}: {'; '.join(found)}",
            "Few-shot splits have no class in common; take the class out of all but one.",
        )
    for split, listed in names.items():
        if len(set(listed)) < len(listed):
            twice = sorted({n for n in listed if listed.count(n) > 1})
            raise DataError(f"{recipe.name}: split '{split}' names class '{twice[0]}' twice")
        if not listed:
            raise DataError(f"{recipe.name}: split '{split}' has no class")


def _begin(partial: Path, header: dict[str, Any], size: tuple[int, ...]) -> None:
    """Make the array, empty as yet, and the journal's first line."""
    needed, free = math.prod(size), shutil.disk_usage(partial).free
    if needed > free:
        raise ResourceError(
            f"{partial} will take {needed:,} bytes, its disk has {free:,} free",
            "Free some space, or give another folder with --to.",
        )
    with disk_full(partial):
        np.lib.format.open_memmap(partial / IMAGES, "w+", np.uint8, size)
        (partial / JOURNAL).write_text(json.dumps(header) + "\n")


def _write_class(
    owner: SourceClass,
    source: Source,
    want: Shape,
    shape: tuple[int, int, int],
    file: Any,
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> str:
    """Decode and write one class; returns the sha256 of its bytes."""
    sha = hashlib.sha256()

    def image(i: int) -> NDArray[np.uint8]:
        out = pixels(owner, i, want, source.bgr)
        if out.shape != shape:
            raise DataError(
                f"images differ in size: {place(owner, i)} is {out.shape[1]}x{out.shape[0]}, the"
                f" first one {shape[1]}x{shape[0]}",
                f"Give --size {min(shape[:2])} to bring all to one size.",
            )
        return out

    for begin in range(0, len(owner.images), BLOCK):
        rows = range(begin, min(begin + BLOCK, len(owner.images)))
        block = np.stack(list(pool.map(image, rows)))
        sha.update(block.data)
        file.write(block.data)
        progress.advance(len(block))
    return sha.hexdigest()


def _image_shape(recipe: Recipe, source: Source) -> tuple[int, int, int]:
    size = recipe.shape.size
    if size is not None:
        return (size, size, recipe.shape.channels)
    first = next(c for classes in source.splits.values() for c in classes)
    height, width, channels = pixels(first, 0, recipe.shape, source.bgr).shape
    return (height, width, channels)


def _same_images(recipe: Recipe, splits: Mapping[str, Sequence[ClassInfo]]) -> None:
    seen: dict[str, str] = {}
    for split, classes in splits.items():
        for c in classes:
            if (other := seen.get(c.sha256)) and other != split:
                raise DataError(
                    f"{recipe.name}: class '{c.name}' of split '{split}' has the very same images"
                    f" as a class of split '{other}'",
                    "Few-shot splits have no class in common; take it out of all but one.",
                )
            seen[c.sha256] = split


def _hashed(recipe: Recipe, entry: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """A source with its sha256; whether it is the published archive, where its md5 is known."""
    path = Path(entry["file"])
    if path.is_dir():
        return entry
    size = path.stat().st_size
    progress.start(f"sha256 of {path.name}", size)
    sha, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    published = recipe.md5.get(path.name)
    with path.open("rb") as file:
        while block := file.read(2**22):
            sha.update(block)
            if published:
                md5.update(block)
            progress.advance(len(block))
    out = {**entry, "bytes": size, "sha256": sha.hexdigest()}
    return out | ({"as_published": md5.hexdigest() == published} if published else {})


def _done(journal: Path, header: dict[str, Any]) -> dict[str, str]:
    """The classes that an earlier conversion of the same sources has finished, with their hash."""
    done: dict[str, str] = {}
    try:
        first, *lines = read_small(journal, LONGEST).decode("utf-8").splitlines()
        if json.loads(first) != header:
            return {}
        for line in lines:
            entry = json.loads(line)
            done[str(entry["class"])] = str(entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # up to the line that was being written when it was stopped
    return done
