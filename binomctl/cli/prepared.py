"""What is there of a data set's files and of its prepared form, in words and as records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from binomctl.words import number_of

if TYPE_CHECKING:
    from binomctl.contracts import Dataset
    from binomctl.images.store import Store


MORE = (
    "give every split two classes with images enough for support and query: --set"
    " dataset.split_file=FILE, or folders train, val and test"
)


def next_command(name: str, dataset: Any, root: Path) -> str:
    """The command that trains on what was just prepared, with its options."""
    import dataclasses
    import shlex

    words = ["binomctl", "train", "--dataset", name, "--root", str(root)]
    for option in dataclasses.fields(dataset):
        value = getattr(dataset, option.name)
        if option.name != "root" and value != option.default:
            words += ["--set", f"dataset.{option.name}={str(value).lower()}" if isinstance(
                value, bool) else f"dataset.{option.name}={value}"]  # fmt: skip
    return shlex.join(words)


def divided(dataset: Any, store: Store) -> tuple[list[tuple[str, str]], Any]:
    """Of a data set without published splits: rows of how its classes are divided, and the data set
    with tasks that every split has classes and images for; None where there are none."""
    import dataclasses

    from binomctl.errors import DataError
    from binomctl.images.store import ALL

    if ALL not in store.index.splits:
        return [], dataset
    try:
        parts = dataset.divide(store.index)
    except DataError as error:
        return [("divided", str(error))], None
    said = ", ".join(f"{split} {number_of(len(own), 'class')}" for split, own in parts.items())
    counts = [sorted((c.count for c in own), reverse=True) for own in parts.values()]
    ways = min(dataset.ways, *map(len, counts))
    if ways < 2:
        return [("divided", f"{said}: a task needs two")], None
    queries = min(dataset.queries, min(own[ways - 1] for own in counts) - dataset.shots)
    fitting = dataclasses.replace(dataset, ways=ways, queries=queries) if queries > 0 else None
    return [("divided", said)], fitting


def state_of(dataset: Dataset) -> str:
    """What is there of a data set, in words."""
    from binomctl.errors import DataError
    from binomctl.images.contract import FromFiles
    from binomctl.images.recipe import find, open_prepared
    from binomctl.images.store import NotPrepared

    if not isinstance(dataset, FromFiles):
        return "ready" if not hasattr(dataset, "root") else "reads the files that learn2learn keeps"
    try:
        folder = dataset.folder()
    except DataError:
        return f"needs {dataset.recipe.expected}"
    try:
        store = open_prepared(dataset.recipe, folder)
        return f"prepared: {store.path} ({store.index.total:,} images)"
    except NotPrepared:
        pass
    try:
        return f"found, not prepared: {find(dataset.recipe, folder).layout}"
    except DataError as error:
        return str(error)


def rows_of(store: Store) -> list[tuple[str, str]]:
    """A prepared form, a row for everything that a table tells of it."""
    height, width, channels = store.index.shape
    return [
        ("layout", store.index.layout),
        ("prepared form", str(store.path)),
        ("images", f"{store.index.total:,} of {width}x{height}, {channels} channels"),
        *(
            (split, f"{len(classes)} classes, {sum(c.count for c in classes):,} images ({each})")
            for split, classes in store.index.splits.items()
            for each in [_each([c.count for c in classes])]
        ),
    ]


def _each(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,} a class" if low == high else f"{low:,} to {high:,} a class"


def described(store: Store) -> dict[str, Any]:
    """A prepared form as --json prints it."""
    return {
        "path": str(store.path),
        "name": store.index.name,
        "layout": store.index.layout,
        "shape": list(store.index.shape),
        "splits": {
            split: {"classes": len(classes), "images": sum(c.count for c in classes)}
            for split, classes in store.index.splits.items()
        },
        "sources": [dict(source) for source in store.index.sources],
    }
