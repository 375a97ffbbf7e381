"""What lies among a data set's images and is not taken, in words: nothing vanishes unseen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from binomctl.images.sources import SUFFIXES, Source, images_in
from binomctl.words import number_of

CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "prepared"}
"""What systems, and preparing, leave in folders, beside hidden files."""
NO_PICTURES = {".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".html", ".mat", ".py"}


def passed_over(source: Source) -> list[str]:
    """A line for every folder beside the classes that is no class, and for every class with files
    that are not read.

    Args:
        source: of folders of files; any other has nothing to tell.
    """
    lines = []
    known = {owner.where for classes in source.splits.values() for owner in classes}
    for parent in sorted({folder.parent for folder in known if folder.is_dir()}):
        for folder in sorted(p for p in parent.iterdir() if p.is_dir() and p not in known):
            if not is_clutter(folder) and not any(k.is_relative_to(folder) for k in known):
                lines.append(f"{folder} is no class: {_why(folder)}")
    for folder in sorted(folder for folder in known if folder.is_dir()):
        if strange := _strange(folder):
            lines.append(f"{folder}: {_counted(strange)} left out, of a kind that is not read")
    return lines


def _why(folder: Path) -> str:
    """Why a folder without images of its own is none of the classes."""
    deeper = [(p, len(images_in(p))) for p in sorted(folder.iterdir()) if p.is_dir()]
    if found := [(p, n) for p, n in deeper if n]:
        n = sum(count for _, count in found)
        return f"its {n} images lie one level deeper, in {found[0][0].name}" + (
            f" and {len(found) - 1} more" if len(found) > 1 else ""
        )
    if strange := _strange(folder):
        return f"{_counted(strange)}, of a kind that is not read"
    return "it is empty" if not any(folder.iterdir()) else "it has no images"


def _strange(folder: Path) -> Counter[str]:
    """Files of a class folder that might be pictures and are not read, by suffix."""
    return Counter(
        p.suffix.lower() or "(none)"
        for p in folder.iterdir()
        if p.is_file() and not is_clutter(p) and p.suffix.lower() not in SUFFIXES | NO_PICTURES
    )


def _counted(strange: Counter[str]) -> str:
    n = sum(strange.values())
    return f"{number_of(n, 'file')} ({', '.join(sorted(strange))})"


def is_clutter(path: Path) -> bool:
    """Whether it is none of the user's pictures: hidden, or left there by a system or by us."""
    return path.name.startswith((".", "._")) or path.name.lower() in CLUTTER
