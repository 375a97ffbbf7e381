"""`binomctl runs`: a folder of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_left_out, print_note, print_table
from binomctl.cli.panels import Command

if TYPE_CHECKING:
    from binomctl.runs.listing import RunInfo

runs_app = typer.Typer(name="runs", help="List, show and delete runs.", no_args_is_help=True)

ROOT = Annotated[Path, typer.Argument(metavar="[FOLDER]", help="The folder that holds them.")]


@runs_app.command(name="ls", cls=Command)
def list_runs(root: ROOT = Path("runs"), json_output: flags.JSON = False) -> None:
    """Every run in a folder: its state, estimator, data set, best validation, age and size."""
    from binomctl.errors import ConfigError
    from binomctl.runs.listing import runs_in

    if root.exists() and not root.is_dir():
        raise ConfigError(f"FOLDER: {root} is a file", "Give the folder that holds your runs.")
    found = runs_in(root)
    if json_output:
        print_json({"schema": "binomctl/runs/1", "runs": [one.record() for one in found]})
        return
    if not found:
        print_note(f"no run in {root}")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from binomctl.settings.durations import worded

    console = Console()
    table = Table(box=box.SIMPLE)
    for name, least in (("run", 12), ("state", 8), ("best validation", 8)):
        table.add_column(name, overflow="fold", min_width=least)
    wide = console.width >= 80
    more_names = ("estimator", "data set", "age", "size")
    for name in more_names if wide else ():
        table.add_column(name, overflow="fold")
    for one in found:
        cells = [Text(Path(one.path).name), Text(_state(one)), Text(_value(one))]
        more = [one.estimator, one.dataset, worded(one.age), _size(one.size)] if wide else []
        table.add_row(*cells, *map(Text, more))
    console.print(table)
    print_left_out(console, () if wide else more_names)


@runs_app.command(cls=Command)
def show(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    json_output: flags.JSON = False,
) -> None:
    """One run: how far it came, what it is, what is saved of it."""
    from binomctl.runs import RunDirectory
    from binomctl.runs.listing import info
    from binomctl.runs.resuming import damage
    from binomctl.settings.durations import worded

    saved = RunDirectory.open(path).checkpoints.steps()
    one = info(path)
    if json_output:
        print_json({"schema": "binomctl/run-info/1", **one.record()})
        return
    table = [
        ("run", one.path),
        ("state", _state(one)),
        *([("reason", one.reason)] if one.reason else []),
        ("estimator", one.estimator),
        ("data set", one.dataset),
        ("best validation", _value(one)),
        ("saved steps", ", ".join(map(str, saved)) or "none"),
        ("last written", f"{worded(one.age)} ago"),
        ("size", _size(one.size)),
    ]
    if one.state == "stopped" or (one.state == "broken" and damage(path)):
        table.append(("next", f"binomctl train --resume {one.path}"))
    elif one.state == "done":
        table.append(("next", f"binomctl eval {one.path}"))
    print_table("Run", table)


@runs_app.command(cls=Command)
def rm(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete runs; never one that is running, nor a folder that is none."""
    import shutil

    from binomctl.errors import CheckpointError
    from binomctl.runs.listing import info

    found = []
    for path in paths:  # all are looked at before any is deleted
        if path.is_symlink() or not (path / "run.json").is_file():
            raise CheckpointError(
                f"{path} is not a run of binomctl: it has no run.json", "Delete it yourself."
            )
        found.append(info(path))
        if found[-1].state == "running":
            raise CheckpointError(f"{path} is running", "Stop it first.")
    for one in found:
        said = f"{one.path} ({_state(one)}, {_size(one.size)})"
        if not yes and not typer.confirm(f"Delete {said}?", err=True):
            continue
        shutil.rmtree(one.path)
        print_note(f"deleted {said}")


def _state(one: RunInfo) -> str:
    if one.state in ("running", "stopped"):
        return f"{one.state}, step {one.step} of {one.steps}"
    return one.state


def _value(one: RunInfo) -> str:
    from binomctl.metric import Metric

    if one.value is None:
        return "none yet"
    return Metric(one.metric, "share" if one.unit == "share" else "number", True).worded(one.value)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
