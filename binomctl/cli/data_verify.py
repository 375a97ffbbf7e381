"""`binomctl data verify`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_table
from binomctl.cli.data_options import Assign, Name, Root, Size, dataset_of
from binomctl.cli.loading import load_torch
from binomctl.cli.prepared import described, rows_of


def verify(
    name: Name,
    root: Root = None,
    size: Size = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Fewer classes or images than published are fine.")
    ] = False,
    assign: Assign = None,
    json_output: flags.JSON = False,
) -> None:
    """Check a prepared data set: every hash, the splits' classes, the published counts."""
    load_torch()
    from binomctl.cli.datasets import Conversion
    from binomctl.errors import ConfigError, DataError
    from binomctl.images.contract import FromFiles
    from binomctl.images.duplicates import twice
    from binomctl.images.recipe import open_prepared
    from binomctl.images.store import verify as check

    dataset = dataset_of(name, root, size, assign)
    if not isinstance(dataset, FromFiles):
        raise ConfigError(
            f"NAME: '{name}' has no files to check",
            f"'binomctl data show {name}' draws an episode.",
        )
    store = open_prepared(dataset.recipe, dataset.folder())
    with closing(Conversion()) as progress:
        progress.start(f"hashing {store.path}", store.index.total)
        recipe = dataset.recipe
        broken, differs = check(store, recipe.reference, recipe.per_class, progress.advance)
        progress.start("looking for pictures that occur twice", store.index.total)
        found = twice(store.images, dataset.divide(store.index), progress.advance)
    broken = broken + found.leaks
    noted = [*found.repeated, *found.near]
    wrong = broken + ([] if partial else differs)
    if json_output:
        result = {**described(store), "broken": broken, "differs": differs, "noted": noted,
                  "left_out": list(store.index.left_out), "ok": not wrong}  # fmt: skip
        print_json({"schema": "binomctl/data-verify/1", **result})
    else:
        counts = "; ".join(differs) or (
            "as published" if dataset.recipe.reference else "nothing published to compare with"
        )
        rows = [
            *rows_of(store),
            *(
                ("archive", "as published" if s["as_published"] else "not the published one")
                for s in store.index.sources
                if "as_published" in s
            ),
            ("hashes, splits", "; ".join(broken) or "every class as prepared, none in two splits"),
            ("counts", counts),
            *(("note", line) for line in noted[:12]),
            *([("note", f"and {len(noted) - 12} more like these")] if len(noted) > 12 else []),
            *(("left out", line) for line in store.index.left_out),
        ]
        print_table(f"{name}, checked", rows)
    if broken:
        raise DataError(
            f"{store.path}: {broken[0]}", "Delete the folder and run 'binomctl data prepare' again."
        )
    if wrong:
        raise DataError(
            f"{name} is not complete: {differs[0]}", "Give --partial where that is meant."
        )
