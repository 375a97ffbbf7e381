"""`binomctl sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note
from binomctl.cli.loading import load_torch
from binomctl.cli.panels import Command
from binomctl.cli.slurm import slurm_options

if TYPE_CHECKING:
    from binomctl.sweeps.folder import CellState, SweepFolder


REASON = 100  # characters of what went wrong in a table; --json has all


class FileFirst(TyperGroup):
    """`sweep FILE` is `sweep run FILE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


sweep_app = typer.Typer(
    cls=FileFirst, no_args_is_help=True, help="Run a grid of configurations: sweep FILE."
)


@sweep_app.callback()
def _group() -> None:
    """Run a grid of configurations: sweep FILE."""


@sweep_app.command(cls=Command)
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The grid: a YAML file or a name.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The sweep's folder; default sweeps/<name of FILE>."),
    ] = None,
    executor: Annotated[str, typer.Option(help="local or slurm.")] = "local",
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time.")] = 1,
    tries: Annotated[int, typer.Option(min=1, help="Of a cell that fails.")] = 2,
    partition: Annotated[str | None, typer.Option(help="Of Slurm.")] = None,
    minutes: Annotated[
        int | None,
        typer.Option(min=1, help="Of a job; it saves and another goes on."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Of a cell, which share its tasks; on GPUs one on each.")
    ] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs of a job; default: one for each process.")
    ] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs of a job.")] = None,
    ram: Annotated[int | None, typer.Option(min=1, help="GB of memory of a job.")] = None,
    memory: Annotated[int | None, typer.Option("--memory", min=1, hidden=True)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--slurm", metavar="KEY=VALUE", help="Any option of sbatch; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build every cell, list them, stop.")
    ] = False,
    json_output: flags.JSON = False,
) -> None:
    """Train every cell of a grid that is not finished; call it again to go on."""
    from binomctl.errors import BinomctlError
    from binomctl.runs.lock import locked
    from binomctl.sweeps.execute import How, check_cluster, execute
    from binomctl.sweeps.folder import SweepFolder
    from binomctl.sweeps.grid import read_grid

    load_torch()
    cluster = check_cluster(executor)
    if gpus is None and processes > 1:
        gpus = processes
    given = slurm_options(partition, minutes, gpus, cpus, ram or memory, option)
    cells = read_grid(file)
    where = out or Path("sweeps") / file.stem
    # What was built when this sweep began is not built again, so that it goes on at once.
    before = set() if dry_run else SweepFolder.begun(where, cells)
    _build_all([(cell.name, cell.config) for cell in cells if cell.name not in before])
    if dry_run:
        if json_output:
            print_json({"schema": "binomctl/grid/1", "cells": [c.name for c in cells]})
        else:
            typer.echo("\n".join(c.name for c in cells))
        return
    folder = SweepFolder.create(where, cells)
    done = sum(folder.finished(name) for name in folder.names)
    print_note(f"sweep {folder.path}: {len(folder.names)} cells, {done} of them finished")
    with locked(folder.path), _Live(folder, jobs) as live:
        failed = execute(folder, How(cluster, jobs, tries, processes, given), live.tell)
    _show(folder, jobs, json_output)
    if failed:
        raise BinomctlError(
            f"{len(failed)} of {len(folder.names)} cells are not done: {', '.join(failed)}",
            f"Their logs are in {folder.path / 'jobs'}; the same command tries them again.",
        )


@sweep_app.command(cls=Command)
def status(
    path: Annotated[Path, typer.Argument(metavar="SWEEP", help="The folder of a sweep.")],
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time, for the time left.")] = 1,
    watch: Annotated[bool, typer.Option("--watch", help="Until all is done.")] = False,
    json_output: flags.JSON = False,
) -> None:
    """Every cell of a sweep: how far it is, its best validation, the time left."""
    import time

    load_torch()
    from binomctl.sweeps.folder import SweepFolder

    folder = SweepFolder.open(path)
    print_note(f"looking at {len(folder.names)} cells of {path}")
    if watch and not json_output:
        with _Live(folder, jobs) as live:
            while any(s.state in ("queued", "running", "stopped") for s in folder.states()):
                live.tell("")
                time.sleep(2)
    _show(folder, jobs, json_output)


def _build_all(cells: list[tuple[str, Any]]) -> None:
    """What training would refuse is refused before anything begins; one of several seeds is
    built."""
    from binomctl.cli.datasets import ensure_prepared
    from binomctl.comparison.methods import identity
    from binomctl.errors import ConfigError
    from binomctl.training.opening import checked

    seen: set[str] = set()
    for name, config in cells:
        key = str(identity(config))
        if key in seen:
            continue
        seen.add(key)
        try:
            ensure_prepared(config)
            checked(config)
        except ConfigError as error:
            raise ConfigError(f"cell {name}: {error}", error.hint) from error


class _Live:
    """The table of a sweep, renewed in place on a terminal; off it a line an event."""

    def __init__(self, folder: SweepFolder, jobs: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._folder, self._jobs = folder, jobs
        console = Console(stderr=True)
        self._live = Live(console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> _Live:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, text: str) -> None:
        if self._live is not None:
            self._live.update(_table(self._folder.states(), self._jobs, self._live.console.width))
        elif text:
            print_note(text)


def _show(folder: SweepFolder, jobs: int, json_output: bool) -> None:
    from rich.console import Console

    from binomctl.sweeps.folder import remaining

    states = folder.states()
    if json_output:
        print_json(
            {"schema": "binomctl/sweep-status/1", "sweep": str(folder.path),
             "cells": [s.record() for s in states], "seconds_left": remaining(states, jobs)}
        )  # fmt: skip
        return
    console = Console()
    console.print(_table(states, jobs, console.width))


def _table(states: list[CellState], jobs: int, width: int) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from binomctl.metric import Metric
    from binomctl.settings.durations import worded
    from binomctl.sweeps.folder import remaining

    counts = {state: sum(s.state == state for s in states) for state in
              ("done", "running", "queued", "stopped", "failed", "waiting")}  # fmt: skip
    said = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    left = remaining(states, jobs)
    title = f"{len(states)} cells: {said}"
    if left:
        title += f"; about {worded(left)} left"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("cell", overflow="fold", min_width=12)
    table.add_column("state")
    wide = width >= 80
    if wide:
        table.add_column("step", justify="right")
    table.add_column("best validation" if wide else "best", overflow="fold")
    if wide:
        table.add_column("left", justify="right")
    for one in states:
        best = "-"
        if one.value is not None:
            best = Metric(one.metric, one.unit, True).worded(one.value)
        reason = one.reason if len(one.reason) <= REASON else f"{one.reason[:REASON]}..."
        state = f"{one.state}: {reason}" if reason else one.state
        time_left = "-" if one.left is None or one.state == "done" else worded(one.left)
        row = [one.name, state, *([f"{one.step}/{one.steps}"] if wide else []), best,
               *([time_left] if wide else [])]  # fmt: skip
        table.add_row(*map(Text, row))
    return table
