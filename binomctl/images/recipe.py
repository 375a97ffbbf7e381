"""How a data set is read: the layouts it may lie in, and what its images become."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from binomctl.errors import DataError
from binomctl.images.archives import unpack
from binomctl.images.sources import Layout, Shape, Source
from binomctl.images.store import NotPrepared, Store, is_store, open_store


@dataclass(frozen=True)
class Recipe:
    """How a data set is read and what its pixels become.

    layouts: in the order they are looked for; archives: names it may come packed under;
    reference: classes and images by split of the published data set.
    """

    name: str
    layouts: tuple[Layout, ...]
    shape: Shape
    archives: tuple[str, ...] = ()
    reference: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    expected: str = ""
    """The files it is usually kept in, for whoever has none of them."""


def store_path(recipe: Recipe, root: Path) -> Path:
    """Where a recipe's prepared form lies: `root` itself when that is one, or a folder under it."""
    if is_store(root):
        return root
    size = recipe.shape.size
    return root / "prepared" / (f"{recipe.name}-{size}" if size else recipe.name)


def find(recipe: Recipe, root: Path, unpacked: Path | None = None) -> Source:
    """The data set under a folder, from an archive if need be.

    Raises:
        DataError: none of the layouts is there; the message says what was looked for.
    """
    for layout in recipe.layouts:
        if source := layout.find(root):
            return source
    packed = [root / name for name in recipe.archives if (root / name).is_file()]
    if packed and unpacked is None:
        raise DataError(f"{packed[0]} is not unpacked yet")
    if packed and unpacked is not None:
        for archive in packed:
            _unpack_once(archive, unpacked)
        for layout in recipe.layouts:
            for folder in (unpacked, *sorted(p for p in unpacked.iterdir() if p.is_dir())):
                if source := layout.find(folder):
                    return replace(source, files=packed)
        raise DataError(
            f"{', '.join(map(str, packed))}: none of the known layouts is in there",
            f"{recipe.name} needs {recipe.expected}.",
        )
    raise DataError(
        f"{root} has no {recipe.name} in a known layout", f"It needs {recipe.expected}."
    )


def _unpack_once(archive: Path, into: Path) -> None:
    """Unpack an archive into a folder that others may share; not again when that was done."""
    done = into / f".{archive.name}.done"
    if done.exists():
        return
    inside = into / f".{archive.name}"
    shutil.rmtree(inside, ignore_errors=True)
    unpack(archive, inside)
    for child in inside.iterdir():
        os.replace(child, into / child.name)
    inside.rmdir()
    done.touch()


def open_prepared(recipe: Recipe, root: Path) -> Store:
    """The prepared form of a recipe, which must be there.

    Raises:
        NotPrepared: it is not.
        DataError: it is damaged, or was made with another size or mode.
    """
    try:
        return checked(recipe, open_store(store_path(recipe, root)))
    except NotPrepared as error:
        size = f" --size {recipe.shape.size}" if recipe.shape.size else ""
        raise NotPrepared(
            f"{recipe.name} is not prepared: {error}",
            f"Run 'binomctl data prepare {recipe.name} --root {root}{size}'.",
        ) from None


def checked(recipe: Recipe, store: Store) -> Store:
    """A store that is there, if it is what the recipe makes."""
    wanted = made(recipe)
    if store.index.name != recipe.name or dict(store.index.made) != wanted:
        raise DataError(
            f"{store.path} is '{store.index.name}' made with {dict(store.index.made)}; asked for is"
            f" '{recipe.name}' with {wanted}",
            "Give another folder, or the size it was prepared with.",
        )
    return store


def made(recipe: Recipe) -> dict[str, Any]:
    return asdict(recipe.shape)
