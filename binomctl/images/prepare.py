"""Converts a data set in any known layout to its prepared form, once.

Memory stays bounded by a block of images, whatever the size of the files; an interrupted
conversion goes on at the class it was in.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from binomctl.atomic import disk_full, write_json
from binomctl.errors import ConfigError, DamagedFile, DataError
from binomctl.images.convert import Progress, Silent, convert
from binomctl.images.recipe import Recipe, checked, find, store_path
from binomctl.images.store import INDEX, Store, is_store, open_store


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
    target = to or store_path(recipe, root)
    if is_store(target):
        try:
            return checked(recipe, open_store(target))
        except DamagedFile:
            if target == root:  # it is all there is
                raise
            _put_aside(target)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", f"{recipe.name} needs {recipe.expected}.")
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {partial}: {error.strerror}",
            "Give a folder of yours with --to; dataset.root is then that folder.",
        ) from None
    with _alone(partial):
        try:
            source = find(recipe, root, partial / "unpacked")
        except DataError:
            _remove_if_new(partial)
            raise
        index = convert(recipe, source, partial, progress or Silent())
        with disk_full(target):
            write_json(partial / INDEX, index.to_json())
        for name in ("progress.jsonl", "lock"):
            (partial / name).unlink(missing_ok=True)
        shutil.rmtree(partial / "unpacked", ignore_errors=True)
        os.replace(partial, target)
    return open_store(target)


def _remove_if_new(partial: Path) -> None:
    """Leave no trace where there was nothing to convert."""
    if not (partial / "progress.jsonl").exists():
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            partial.parent.rmdir()  # if it is empty


def _put_aside(store: Path) -> None:
    """Rename a damaged store, over an earlier one that was put aside."""
    aside = store.with_name(f"{store.name}.quarantined")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(store, aside)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second process out of the same conversion; the lock ends with its process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(
                f"another process is preparing {folder.with_suffix('')}", "Wait for it to end."
            ) from None
        yield
