"""Converts a data set in any known layout to its prepared form, once.

Memory stays bounded by a block of images, whatever the size of the files; an interrupted
conversion goes on at the class it was in.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from binomctl.errors import ConfigError, DamagedFile
from binomctl.files.atomic import disk_full, write_json
from binomctl.images.broken import without_broken
from binomctl.images.convert import JOURNAL, Progress, Silent, convert
from binomctl.images.duplicates import twice
from binomctl.images.passed_over import passed_over
from binomctl.images.recipe import Recipe, blaming, checked, find, store_path
from binomctl.images.sources import Missing
from binomctl.images.store import IMAGES, INDEX, Store, changed_sources, is_store, open_store

NOTES = logging.getLogger("binomctl.notes")
"""What whoever waits is told; the command line shows it."""


def prepare(
    recipe: Recipe, root: Path, to: Path | None = None, progress: Progress | None = None
) -> Store:
    """Convert what lies under `root`; returns the store at once when it is there already. A damaged
    store is put aside as NAME.quarantined and made anew.

    Args:
        recipe: the data set.
        root: the folder with its files.
        to: where the prepared form goes; None: `store_path`.

    Raises:
        DataError: no known layout is there, a file is damaged, images differ in size, a class is
            in two splits.
        ResourceError: the disk is full; what was converted is kept for the next try.
    """
    progress = progress or Silent()
    target = (to or store_path(recipe, root)).absolute()
    if (store := _there(recipe, root, target)) is not None:
        return store
    if not root.is_dir():
        raise Missing(f"there is no folder {root}", f"{recipe.name} needs {recipe.expected}.")
    if to is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{to} is there already and no prepared data set", "Give another --to.")
    lock = target.with_name(f".{target.name}.lock")
    partial = target.with_name(f"{target.name}.partial")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise ConfigError(
            f"cannot write to {lock.parent}: {error.strerror}",
            f"Run 'binomctl data prepare {recipe.name} --root {root} --to FOLDER' with a folder of"
            " yours, and give that folder as --root afterwards.",
        ) from error
    with _alone(lock, progress):
        if (store := _there(recipe, root, target)) is not None:
            return store  # made by another process while this one waited
        if not is_store(partial):  # the index is written last: what has one is whole
            _converted(recipe, root, partial, progress)
        (partial / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(partial / "unpacked", ignore_errors=True)
        if target.is_dir():
            _put_aside(target)
        os.replace(partial, target)
    return open_store(target)


def _converted(recipe: Recipe, root: Path, partial: Path, progress: Progress) -> None:
    """Make the prepared form in a folder of its own, or go on with one that was begun."""
    unpacked = partial / "unpacked"
    if not (partial / JOURNAL).exists():  # what a kill may have left of a clearing up
        shutil.rmtree(unpacked, ignore_errors=True)
    partial.mkdir(exist_ok=True)
    try:
        source = find(recipe, root, unpacked)
        left_out = passed_over(source)
        with blaming(source.files, unpacked):
            try:
                index = convert(recipe, source, partial, progress)
            except DamagedFile as damage:
                if unpacked.exists():  # not files as they came: the archive itself is damaged
                    raise
                source, broken = without_broken(recipe, source, damage, progress)
                left_out += broken
                index = convert(recipe, source, partial, progress)
    finally:
        _remove_if_new(partial)
    for line in left_out:
        NOTES.warning("%s", line)
    images = np.load(partial / IMAGES, mmap_mode="r")
    progress.start(f"{recipe.name}: looking for pictures that occur twice", index.total)
    found = twice(images, index.splits, progress.advance)
    for line in _few([*found.leaks, *found.repeated, *found.near]):
        NOTES.warning("%s", line)
    with disk_full(partial):
        write_json(partial / INDEX, replace(index, left_out=tuple(left_out)).to_json())


def _few(lines: list[str], most: int = 12) -> list[str]:
    """The first lines, and how many more there are."""
    rest = [f"and {len(lines) - most} more like these"] if len(lines) > most else []
    return lines[:most] + rest


def _there(recipe: Recipe, root: Path, target: Path) -> Store | None:
    """The store, if there is a sound one."""
    if not is_store(target):
        return None
    all_there_is = target == root.absolute()
    try:
        store = checked(recipe, open_store(target))
    except DamagedFile:
        if all_there_is:
            raise
    else:
        changed = changed_sources(store)
        if changed and all_there_is:
            NOTES.warning("%s has changed since %s was prepared of it", changed[0], target)
        if all_there_is or not changed:
            return store
        NOTES.warning("%s has changed since it was prepared: it is prepared again", changed[0])
    _put_aside(target)
    return None


def _remove_if_new(partial: Path) -> None:
    """Leave no trace where there was nothing to convert."""
    if not (partial / JOURNAL).exists():
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            partial.with_name(f".{partial.name.removesuffix('.partial')}.lock").unlink()
            partial.parent.rmdir()  # if it is empty


def _put_aside(store: Path) -> None:
    """Rename a damaged store, over an earlier one that was put aside."""
    aside = store.with_name(f"{store.name}.quarantined")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(store, aside)


@contextmanager
def _alone(lock: Path, progress: Progress) -> Iterator[None]:
    """One process at a time; the others wait. The lock ends with its process."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        progress.start("waiting for another process that prepares the same data", 0)
        held.acquire()
    try:
        yield
    finally:
        held.release()
