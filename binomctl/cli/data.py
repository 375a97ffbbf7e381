"""`binomctl data`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, print_table
from binomctl.cli.prepared import described, next_command, rows_of, state_of

if TYPE_CHECKING:
    from binomctl.contracts import Dataset

data_app = typer.Typer(help="Prepare, check and look at data sets.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Data set; see 'binomctl data list'.")]
Root = Annotated[
    Path | None, typer.Option(help="Folder of its files, or of its prepared form; $BINOMCTL_DATA.")
]
Size = Annotated[int | None, typer.Option(help="Height and width in pixels.")]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any option: dataset.mode=L; repeatable."),
]


@data_app.callback()
def _group() -> None:
    """Prepare, check and look at data sets."""


@data_app.command()
def prepare(
    name: Name,
    root: Root = None,
    to: Annotated[
        Path | None, typer.Option(help="Where the prepared form goes; default ROOT/prepared/NAME.")
    ] = None,
    size: Size = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch missing files, from where learn2learn does.")
    ] = False,
    mirror: Annotated[
        list[str] | None, typer.Option(help="Address of a folder to fetch from first; repeatable.")
    ] = None,
    assign: Assign = None,
    json_output: flags.JSON = False,
) -> None:
    """Convert a data set's files once, from any of the usual layouts, so that it opens at once."""
    from binomctl.cli.datasets import Conversion
    from binomctl.errors import ConfigError
    from binomctl.images.acquire import acquire
    from binomctl.images.contract import FromFiles
    from binomctl.images.prepare import prepare as convert

    dataset = _dataset(name, root, size, assign)
    if not isinstance(dataset, FromFiles):
        raise ConfigError(
            f"'{name}' has no files to prepare", f"Use it as it is: binomctl train --dataset {name}"
        )
    folder = dataset.folder()
    with closing(Conversion()) as progress:
        if download or mirror:
            store = acquire(
                dataset.recipe, folder, to, source=dataset.learn2learn, mirrors=mirror or (),
                progress=progress, tell=print_note,
            )  # fmt: skip
        else:
            store = convert(dataset.recipe, folder, to, progress)
    if json_output:
        print_json({"schema": "binomctl/data-prepare/1", **described(store)})
        return
    where = store.path if to else folder
    rows = [*rows_of(store), ("next", next_command(name, dataset, where))]
    print_table(f"{name} is prepared", rows)


@data_app.command(name="list")
def list_(root: Root = None, json_output: flags.JSON = False) -> None:
    """List the data sets, and what of them is under a folder."""
    from binomctl.errors import BinomctlError
    from binomctl.settings import registry

    listed = []
    for info in registry.describe():
        if info.kind != "dataset":
            continue
        state = f"failed to load: {info.failure}" if info.failure else ""
        if not state:
            try:
                state = state_of(_dataset(info.name, root, None, None))
            except BinomctlError as error:
                state = str(error)
        listed.append({"name": info.name, "summary": info.summary, "state": state})
    if json_output:
        print_json({"schema": "binomctl/data-list/1", "datasets": listed})
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="data sets", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it is, and what is there of it", overflow="fold")
    for entry in listed:
        what = Text.assemble(entry["summary"], (f"\n{entry['state']}", "dim"))
        table.add_row(Text(entry["name"]), what)
    Console().print(table)


@data_app.command()
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
    from binomctl.cli.datasets import Conversion
    from binomctl.errors import ConfigError, DataError
    from binomctl.images.contract import FromFiles
    from binomctl.images.recipe import open_prepared
    from binomctl.images.store import verify as check

    dataset = _dataset(name, root, size, assign)
    if not isinstance(dataset, FromFiles):
        raise ConfigError(f"'{name}' has no files to check")
    store = open_prepared(dataset.recipe, dataset.folder())
    with closing(Conversion()) as progress:
        progress.start(f"hashing {store.path}", store.index.total)
        recipe = dataset.recipe
        broken, differs = check(store, recipe.reference, recipe.per_class, progress.advance)
    wrong = broken + ([] if partial else differs)
    if json_output:
        result = {**described(store), "broken": broken, "differs": differs, "ok": not wrong}
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


@data_app.command()
def show(
    name: Name,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture: .png, .svg or .pdf.")
    ] = Path("episode.png"),
    split: Annotated[str, typer.Option(help="Which split.")] = "train",
    index: Annotated[int, typer.Option(min=0, help="Which episode.")] = 0,
    ways: flags.WAYS = None,
    shots: flags.SHOTS = None,
    root: Root = None,
    size: Size = None,
    assign: Assign = None,
) -> None:
    """Draw one episode: its support and its query set, images as they are, functions as curves."""
    import dataclasses

    from binomctl.contracts import NamesClasses
    from binomctl.options import has_option
    from binomctl.reporting.figure_episode import draw_images, draw_points
    from binomctl.reporting.figures import check_suffix

    check_suffix(output)
    options = {"dataset.ways": ways, "dataset.shots": shots}
    dataset = _dataset(name, root, size, assign, options)
    episode = dataset.episode(split, index)
    title = f"{name}, {split} episode {index}"
    if dataset.kind == "regression":
        if has_option(type(dataset), "queries"):  # enough to see the curve
            dataset = dataclasses.replace(dataset, queries=200)  # type: ignore[type-var]
            episode = dataset.episode(split, index)
        sides = [(x.numpy(), y.numpy()) for x, y in (
            (episode.x_trn, episode.y_trn), (episode.x_val, episode.y_val))]  # fmt: skip
        draw_points(title, sides[0], sides[1], output)
    else:
        if isinstance(dataset, NamesClasses):
            names = dataset.class_names(split, index)
        else:
            names = [f"class {c}" for c in range(dataset.out_dim)]
        sides = [
            (_unit(x).movedim(1, -1).numpy(), y.numpy())
            for x, y in ((episode.x_trn, episode.y_trn), (episode.x_val, episode.y_val))
        ]
        draw_images(title, sides[0], sides[1], names, output)
    print_note(f"wrote {output}")


def _unit(x: Any) -> Any:
    return x.float() / 255 if not x.is_floating_point() else x.clamp(0, 1)


def _dataset(
    name: str,
    root: Path | None,
    size: int | None,
    assign: list[str] | None,
    more: dict[str, Any] | None = None,
) -> Dataset:
    from binomctl.problem.datasets import build_dataset
    from binomctl.settings.layers import load_config

    overrides: dict[str, Any] = {"dataset.name": name, **(more or {})}
    if root is not None and _has(name, "root"):
        overrides["dataset.root"] = str(root.expanduser().absolute())
    if size is not None:
        overrides["dataset.image_size"] = size
    return build_dataset(load_config(overrides=overrides, assignments=assign)[0])


def _has(name: str, option: str) -> bool:
    from binomctl.options import has_option
    from binomctl.settings import registry

    return has_option(registry.load("dataset", name.partition(":")[0]), option)
