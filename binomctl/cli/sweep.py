"""`binomctl sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note
from binomctl.cli.counting import Counting
from binomctl.cli.loading import load_torch
from binomctl.cli.panels import Command
from binomctl.cli.slurm import check_local, slurm_options
from binomctl.words import number_of

if TYPE_CHECKING:
    from binomctl.sweeps.folder import CellState, SweepFolder


class FileFirst(TyperGroup):
    """`sweep FILE` and `sweep --dry-run FILE` are `sweep run FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return list(super().parse_args(ctx, args))

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
        typer.Option(min=1, help="Of a job; it saves and another goes on. Default on Slurm: 60."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Of a cell, which share its tasks; on GPUs one on each.")
    ] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs of a job; default: one for each of several.")
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
    load_torch()
    from binomctl.errors import BinomctlError
    from binomctl.runs.lock import locked
    from binomctl.sweeps.execute import How, check_cluster, execute
    from binomctl.sweeps.folder import SweepFolder
    from binomctl.sweeps.grid import read_grid

    cluster = check_cluster(executor)
    if gpus is None and processes > 1:
        gpus = processes
    given = slurm_options(partition, minutes, gpus, cpus, ram or memory, option)
    if cluster == "local":
        check_local(given)
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
            print_note(f"{number_of(len(cells), 'cell')} can be trained; none was started")
        return
    folder = SweepFolder.create(where, cells)
    done = sum(folder.finished(name) for name in folder.names)
    print_note(
        f"sweep {folder.path}: {number_of(len(folder.names), 'cell')}, {done} of them finished"
    )
    with locked(folder.path), _Live(folder, jobs) as live:
        failed = execute(folder, How(cluster, jobs, tries, processes, given), live.tell)
    _show(folder, jobs, json_output)
    if failed:
        raise BinomctlError(
            f"{len(failed)} of {number_of(len(folder.names), 'cell')} not done:"
            f" {', '.join(failed)}",
            f"Their logs are in {folder.path / 'jobs'}; the same command tries them again.",
        )


@sweep_app.command(cls=Command)
def status(
    path: Annotated[Path, typer.Argument(metavar="SWEEP", help="The folder of a sweep.")],
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Cells at a time, for the time left; default: as many as run."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Until all is done.")] = False,
    json_output: flags.JSON = False,
) -> None:
    """Every cell of a sweep: how far it is, its best validation, the time left."""
    import time

    from binomctl.errors import ConfigError
    from binomctl.runs.lock import is_locked
    from binomctl.sweeps.folder import SweepFolder

    if watch and json_output:
        raise ConfigError("--watch and --json exclude each other", "Leave one of them out.")
    folder = SweepFolder.open(path)
    print_note(f"looking at {number_of(len(folder.names), 'cell')} of {path}")
    if watch:
        with _Live(folder, jobs) as live:
            # Between two cells none is running, but the sweep is; jobs of Slurm go on without it.
            while is_locked(path) or any(s.state in ("queued", "running") for s in folder.states()):
                live.tell("")
                time.sleep(2)
    _show(folder, jobs, json_output)


def _build_all(cells: list[tuple[str, Any]]) -> None:
    """What training would refuse is refused before anything begins; one of several seeds is
    built."""
    from binomctl.cli.datasets import ensure_prepared
    from binomctl.errors import ConfigError
    from binomctl.training.opening import checked

    different: dict[str, tuple[str, Any]] = {}
    for name, config in cells:
        alike = config.model_copy(update={"seed": 0, "label": None})
        different.setdefault(alike.to_yaml(), (name, config))
    with Counting("checking", len(different), "cells") as counting:
        for name, config in different.values():
            counting.doing(name)
            try:
                ensure_prepared(config)
                checked(config)
            except ConfigError as error:
                raise ConfigError(f"cell {name}: {error}", error.hint) from error
            counting.advance()


class _Live:
    """The table of a sweep, renewed in place on a terminal; off it a line an event."""

    def __init__(self, folder: SweepFolder, jobs: int | None) -> None:
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
        if self._live is None and not text:
            return
        from rich.console import Group

        from binomctl.cli.sweep_table import summary, sweep_table

        states = self._folder.states()
        jobs = self._jobs or _running(states)
        if self._live is not None:
            self._live.update(Group(*sweep_table(states, jobs, self._live.console.width)))
        else:
            print_note(f"{text}; {summary(states, jobs)}")


def _show(folder: SweepFolder, jobs: int | None, json_output: bool) -> None:
    from binomctl.cli.sweep_table import print_sweep
    from binomctl.sweeps.folder import remaining, share_done

    states = folder.states()
    at_a_time = jobs or _running(states)
    if not json_output:
        print_sweep(states, at_a_time)
        return
    print_json(
        {"schema": "binomctl/sweep-status/1", "sweep": str(folder.path),
         "cells": [s.record() for s in states], "share_done": round(share_done(states), 4),
         "seconds_left": remaining(states, at_a_time)}
    )  # fmt: skip


def _running(states: list[CellState]) -> int:
    """As many cells as run now are thought to run at a time until the end."""
    return max(1, sum(s.state == "running" for s in states))
