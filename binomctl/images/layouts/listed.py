"""Layouts where a file says the class of each image."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from binomctl.errors import DamagedFile
from binomctl.images.layouts.records import sound
from binomctl.images.sources import Missing, Source, SourceClass, places_to_look

FILE_COLUMNS = ("filename", "file_name", "file", "image", "path")
LABEL_COLUMNS = ("label", "category", "class", "class_name")


@dataclass(frozen=True)
class CsvTables:
    """A CSV a split, or one for all, with a column for the file and one for the class; `images`:
    the folder that the names are under, "" for the tables' own."""

    tables: Mapping[str, str]
    images: str = "images"
    folders: tuple[str, ...] = ()

    def find(self, root: Path) -> Source | None:
        for folder in places_to_look(root, self.folders):
            paths = {split: folder / name for split, name in self.tables.items()}
            if not any(p.is_file() for p in paths.values()):
                continue
            if missing := [str(p) for p in paths.values() if not p.is_file()]:
                raise Missing(f"{folder} has other tables, but not {', '.join(missing)}")
            images = folder / self.images
            if not images.is_dir():
                raise Missing(f"{next(iter(paths.values()))} is there, but no folder {images}")
            splits = {s: by_class(csv_pairs(p), images, p) for s, p in paths.items()}
            names = ", ".join(self.tables.values())
            return Source(f"{names} over {self.images or '.'}/*", splits, [*paths.values(), images])
        return None


def csv_pairs(path: Path) -> list[tuple[str, str]]:
    """(file, class) of every row, separated by commas, semicolons or tabs; columns by their names,
    the first two where none is known.

    Raises:
        DamagedFile: it is no CSV text of at least two columns.
    """
    with sound(path), path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        separator = max(",;\t", key=first.count)
        rows = [row for row in csv.reader(file, delimiter=separator) if row]
        if short := next((row for row in rows if len(row) < 2), None):
            raise ValueError(f"the line {separator.join(short)!r} has one column")
        head = [name.strip().lower() for name in rows[0]]
        file_at, label_at = _column(head, FILE_COLUMNS), _column(head, LABEL_COLUMNS)
        if file_at is None or label_at is None:
            return [(row[0], row[1]) for row in rows]
        return [(row[file_at], row[label_at]) for row in rows[1:]]


def _column(head: list[str], names: tuple[str, ...]) -> int | None:
    return next((head.index(name) for name in names if name in head), None)


def by_class(pairs: Iterable[tuple[str, str]], images: Path, table: Path) -> list[SourceClass]:
    """The classes of a table's rows, each with its files under a folder, both by name.

    Args:
        pairs: file, class.
        table: where they were read, for messages.

    Raises:
        DamagedFile: a file is not there, or lies outside the folder.
    """
    classes: dict[str, list[Path]] = {}
    for name, label in pairs:
        relative = Path(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise DamagedFile(f"{table} names {name}, which is not under {images}", "", table)
        classes.setdefault(label, []).append(images / relative)
    gone = [p for paths in classes.values() for p in paths if not p.is_file()]
    if gone:
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        raise DamagedFile(
            f"{table} names {gone[0].name}{more}, which {images} does not have",
            "Put the images in place, or take their lines out of the table.",
            table,
        )
    return [SourceClass(label, sorted(classes[label]), table) for label in sorted(classes)]
