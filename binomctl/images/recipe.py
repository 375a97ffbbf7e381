"""How a data set is read: the layouts it may lie in, and what its images become."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from binomctl.errors import DamagedFile, DataError
from binomctl.files.archives import unpack
from binomctl.images.sources import Layout, Missing, Shape, Source
from binomctl.images.store import NotPrepared, Store, is_store, open_store


@dataclass(frozen=True)
class Recipe:
    """How a data set is read and what its pixels become.

    layouts: in the order they are looked for; archives: names it may come packed under, md5 of
    those that are published; reference: classes and images by split of the published data set,
    per_class the images of each class where all have as many; at_most: of each class its first so
    many images are taken.
    """

    name: str
    layouts: tuple[Layout, ...]
    shape: Shape
    archives: tuple[str, ...] = ()
    md5: Mapping[str, str] = field(default_factory=dict)
    reference: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    per_class: int | None = None
    at_most: int | None = None
    expected: str = ""
    """The files it is usually kept in, for whoever has none of them."""


def store_path(recipe: Recipe, root: Path) -> Path:
    """Where a recipe's prepared form lies: `root` itself when that is one, or a folder under it."""
    if is_store(root):
        return root
    shape = recipe.shape
    parts = [recipe.name, *([str(shape.size)] if shape.size else [])]
    parts += ["grey"] * (shape.mode == "L") + ["inverted"] * shape.invert
    parts += [f"first{recipe.at_most}"] if recipe.at_most else []
    return root / "prepared" / "-".join(parts)


def find(recipe: Recipe, root: Path, unpacked: Path | None = None) -> Source:
    """The data set under a folder, from an archive if need be.

    Raises:
        Missing: none of the layouts is there; the message says what was looked for.
        DamagedFile: a file is damaged; in an archive, that archive.
    """
    if not root.is_dir():
        raise Missing(f"there is no folder {root}", f"{recipe.name} needs {recipe.expected}.")
    incomplete: list[Missing] = []
    if source := _look(recipe, [root], incomplete):
        return source
    packed = [root / name for name in recipe.archives if (root / name).is_file()]
    if packed and unpacked is None:
        raise Missing(f"packed: {', '.join(p.name for p in packed)}")
    if packed and unpacked is not None:
        for archive in packed:
            _unpack_once(archive, unpacked)
        inside = [unpacked, *sorted(p for p in unpacked.iterdir() if p.is_dir())]
        with blaming(packed, unpacked):
            if source := _look(recipe, inside, incomplete):
                return replace(source, files=packed)
        incomplete.append(
            Missing(f"{', '.join(map(str, packed))}: none of the known layouts is in there")
        )
    first = (
        incomplete[0] if incomplete else Missing(f"{root} has no {recipe.name} in a known layout")
    )
    raise Missing(str(first), f"{first.hint} {recipe.name} needs {recipe.expected}.".strip())


@contextmanager
def blaming(archives: Sequence[Path], unpacked: Path) -> Iterator[None]:
    """Turn the damage of a file that was unpacked, and is gone in a moment, into its archive's."""
    try:
        yield
    except DamagedFile as damage:
        if damage.path is None or unpacked not in damage.path.parents:
            raise
        parts = damage.path.parts
        archive = next((a for a in archives if a.name.split(".")[0] in parts), archives[0])
        shutil.rmtree(unpacked, ignore_errors=True)
        raise DamagedFile(f"{archive}: {damage}", damage.hint, archive) from damage


def _look(recipe: Recipe, folders: list[Path], incomplete: list[Missing]) -> Source | None:
    """The first layout that is there whole; what is there in part is noted."""
    for layout in recipe.layouts:
        for folder in folders:
            try:
                if source := layout.find(folder):
                    return _first(source, recipe.at_most)
            except Missing as error:
                incomplete.append(error)
            except OSError as error:
                raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
    return None


def _first(source: Source, at_most: int | None) -> Source:
    """The first images of every class; all where nothing is said."""
    if at_most is None:
        return source
    splits = {
        split: [replace(c, images=[c.images[i] for i in range(min(at_most, len(c.images)))])
                for c in classes]
        for split, classes in source.splits.items()
    }  # fmt: skip
    return replace(source, splits=splits)


def _unpack_once(archive: Path, into: Path) -> None:
    """Unpack an archive into a folder that others may share; not again when that was done."""
    done = into / f".{archive.name}.done"
    if done.exists():
        return
    inside = into / f".{archive.name}"
    shutil.rmtree(inside, ignore_errors=True)
    unpack(archive, inside)
    for child in inside.iterdir():
        if not (into / child.name).exists():  # a second archive of the same thing adds nothing
            os.replace(child, into / child.name)
    shutil.rmtree(inside)
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
        options = made(recipe)
        size = f" --size {options['size']}" if options["size"] else ""
        raise NotPrepared(
            f"{recipe.name} is not prepared: {error}",
            f"Run 'binomctl data prepare {recipe.name} --root {root}{size}'.",
        ) from error


def checked(recipe: Recipe, store: Store) -> Store:
    """A store that is there, if it is what the recipe makes."""
    wanted, have = made(recipe), dict(store.index.made)
    if store.index.name != recipe.name:
        raise DataError(f"{store.path} is '{store.index.name}', asked for is '{recipe.name}'")
    if have != wanted:
        differing = ", ".join(
            f"{key} {have.get(key)} and not {wanted[key]}"
            for key in wanted
            if have.get(key) != wanted[key]
        )
        raise DataError(
            f"{store.path} was prepared with {differing}",
            "Ask for what it was prepared with (dataset.image_size, mode, invert), or give the"
            " folder of the original files.",
        )
    return store


def made(recipe: Recipe) -> dict[str, Any]:
    """What a recipe makes of the pixels, as the index keeps it."""
    return asdict(recipe.shape) | ({"at_most": recipe.at_most} if recipe.at_most else {})
