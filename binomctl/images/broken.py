"""Pictures that cannot be read, found all at once and left out."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from binomctl.errors import DamagedFile
from binomctl.images.convert import Progress
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Source, SourceClass, file_of, pixels


def without_broken(
    recipe: Recipe, source: Source, damage: DamagedFile, progress: Progress
) -> tuple[Source, list[str]]:
    """A source of single files without those that cannot be read, and a line for each of them.

    Raises:
        DamagedFile: `damage` again: the images are no files of their own, or most are broken.
    """
    owners = [c for classes in source.splits.values() for c in classes]
    total = sum(len(c.images) for c in owners)
    if not all(file_of(image) for c in owners for image in c.images):
        raise damage
    progress.start(f"{recipe.name}: looking for more files that cannot be read", total)
    broken: dict[Any, str] = {}

    def look(owner: SourceClass, i: int) -> None:
        try:
            pixels(owner, i, recipe.shape, source.bgr)
        except DamagedFile as error:
            broken[owner.images[i]] = str(error)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for owner in owners:
            list(pool.map(lambda i, owner=owner: look(owner, i), range(len(owner.images))))
            progress.advance(len(owner.images))
    if 2 * len(broken) > total:
        raise damage
    splits = {
        split: [replace(c, images=[p for p in c.images if p not in broken]) for c in classes]
        for split, classes in source.splits.items()
    }
    kept = {split: [c for c in classes if c.images] for split, classes in splits.items()}
    lines = [f"left out: {broken[path]}" for path in sorted(broken, key=str)]
    gone = {s: [c.name for c in classes if not c.images] for s, classes in splits.items()}
    lines += [f"class '{n}' of split '{s}' has no readable image" for s in gone for n in gone[s]]
    return replace(source, splits=kept), lines
