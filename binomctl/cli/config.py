"""`binomctl config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json
from binomctl.cli.loading import load_torch
from binomctl.cli.panels import Command

if TYPE_CHECKING:
    from binomctl.settings.config import Config

config_app = typer.Typer(
    help="Keys, effective values and differences of configurations.", no_args_is_help=True
)


@config_app.callback()
def _group() -> None:
    """Keys, effective values and differences of configurations."""


@config_app.command(cls=Command)
def diff(
    first: Annotated[
        Path,
        typer.Argument(metavar="A", help="A YAML file, its name in configs/, or a run folder."),
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    json_output: flags.JSON = False,
) -> None:
    """List the keys in which two protocols or runs differ, every default written out."""
    from binomctl.settings.layers import flat

    sides = [flat(_read(path).model_dump(mode="json")) for path in (first, second)]
    keys = list(dict.fromkeys([*sides[0], *sides[1]]))
    absent = "(absent)"
    rows = [
        (key, sides[0].get(key, absent), sides[1].get(key, absent))
        for key in keys
        if sides[0].get(key, absent) != sides[1].get(key, absent)
    ]
    if json_output:
        differences = {key: {"a": a, "b": b} for key, a, b in rows}
        print_json(
            {
                "schema": "binomctl/config-diff/1",
                "a": str(first),
                "b": str(second),
                "differences": differences,
            }
        )
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not rows:
        console.print("no difference")
        return
    console.print(f"A = {first}\nB = {second}")
    if console.width < 60:
        for key, a, b in rows:
            console.print(f"{key}\n  A  {worded(a)}\n  B  {worded(b)}")
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("key", style="bold", overflow="fold")
    table.add_column("A", overflow="fold")
    table.add_column("B", overflow="fold")
    for key, a, b in rows:
        table.add_row(key, worded(a), worded(b))
    console.print(table)


def _read(path: Path) -> Config:
    load_torch()
    from binomctl.problem.build import resolved
    from binomctl.runs import RunDirectory
    from binomctl.settings.layers import load_config
    from binomctl.settings.named import names

    in_a_folder = len(path.parts) > 1 and path.parent.is_dir() and not path.suffix
    if path.is_dir() or (in_a_folder and path.as_posix() not in names()):
        return resolved(RunDirectory.open(path).config())
    return resolved(load_config(path)[0])


def worded(value: Any) -> str:
    """A value as in YAML."""
    import json

    return value if isinstance(value, str) else json.dumps(value)
