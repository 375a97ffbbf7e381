"""`binomctl data`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, print_table, print_titled
from binomctl.cli.data_options import Assign, Name, Root, Size, dataset_of
from binomctl.cli.data_verify import verify
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs, picture_path
from binomctl.cli.panels import Command
from binomctl.cli.prepared import MORE, described, divided, next_command, rows_of, state_of

data_app = typer.Typer(help="Prepare, check and look at data sets.", no_args_is_help=True)
data_app.command(cls=Command)(verify)


@data_app.callback()
def _group() -> None:
    """Prepare, check and look at data sets."""


@data_app.command(cls=Command)
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
    load_torch()
    from binomctl.cli.datasets import Conversion
    from binomctl.errors import ConfigError
    from binomctl.images.acquire import acquire
    from binomctl.images.contract import FromFiles
    from binomctl.images.prepare import prepare as convert

    dataset = dataset_of(name, root, size, assign)
    if not isinstance(dataset, FromFiles):
        raise ConfigError(
            f"NAME: '{name}' has no files to prepare",
            f"Use it as it is: binomctl train --dataset {name}",
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
    parts, fitting = divided(dataset, store)
    then = MORE if fitting is None else next_command(name, fitting, where)
    print_table(f"{name} is prepared", [*rows_of(store), *parts, ("next", then)])


@data_app.command(name="list", cls=Command)
def list_(root: Root = None, json_output: flags.JSON = False) -> None:
    """List the data sets, and what of them is under a folder."""
    load_torch()
    from binomctl.errors import BinomctlError
    from binomctl.settings import registry

    listed = []
    for info in registry.describe():
        if info.kind != "dataset":
            continue
        state = f"failed to load: {info.failure}" if info.failure else ""
        if not state:
            try:
                state = state_of(dataset_of(info.name, root, None, None))
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

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it is, and what is there of it", overflow="fold")
    for entry in listed:
        what = Text.assemble(entry["summary"], (f"\n{entry['state']}", "dim"))
        table.add_row(Text(entry["name"]), what)
    print_titled(Console(), "data sets", table)


@data_app.command(cls=Command)
def show(
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Picture: .png, .svg or .pdf; default episode.png, numbered."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Which split.")] = "train",
    index: Annotated[int, typer.Option(min=0, help="Which episode.")] = 0,
    ways: flags.WAYS = None,
    shots: flags.SHOTS = None,
    root: Root = None,
    size: Size = None,
    assign: Assign = None,
    force: flags.FORCE = False,
) -> None:
    """Draw one episode: its support and its query set, images as they are, functions as curves."""
    import dataclasses

    load_torch()
    from binomctl.contracts import NamesClasses
    from binomctl.errors import ConfigError
    from binomctl.options import has_option
    from binomctl.reporting.figure_episode import draw_images, draw_points

    picture = picture_path(output, "episode.png", force)
    check_outputs(picture, force=force)
    options = {"dataset.ways": ways, "dataset.shots": shots}
    dataset = dataset_of(name, root, size, assign, options)
    regression = dataset.kind == "regression"
    if regression and has_option(type(dataset), "queries"):  # enough to see the curve
        dataset = dataclasses.replace(dataset, queries=200)  # type: ignore[type-var]
    episode = dataset.episode(split, index)
    sizes = f"n = {len(episode.y_trn)} support and {len(episode.y_val)} query examples"
    title = f"{name}, {split} episode {index}; {sizes}"
    if regression:
        sides = [(x.numpy(), y.numpy()) for x, y in (
            (episode.x_trn, episode.y_trn), (episode.x_val, episode.y_val))]  # fmt: skip
        draw_points(title, sides[0], sides[1], picture)
    elif len(dataset.in_shape) != 3:
        raise ConfigError(
            f"NAME: '{name}' has no pictures to draw: its examples are {list(dataset.in_shape)}",
            "'binomctl train --dry-run' shows the shapes of its tasks.",
        )
    else:
        if isinstance(dataset, NamesClasses):
            names = dataset.class_names(split, index)
        else:
            names = [f"class {c}" for c in range(dataset.out_dim)]
        sides = [
            (_unit(x).movedim(1, -1).numpy(), y.numpy())
            for x, y in ((episode.x_trn, episode.y_trn), (episode.x_val, episode.y_val))
        ]
        draw_images(title, sides[0], sides[1], names, picture)
    print_note(f"wrote {picture}")


def _unit(x: Any) -> Any:
    return x.float() / 255 if not x.is_floating_point() else x.clamp(0, 1)
