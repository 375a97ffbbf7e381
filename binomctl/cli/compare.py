"""`binomctl compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_left_out, print_note, print_titled, write_csv
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs
from binomctl.words import number_of


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders of them.")
    ],
    reference: flags.REFERENCE = None,
    tasks: flags.TASKS = None,
    adaptation_steps: flags.STEPS = None,
    split: flags.SPLIT = "test",
    seed: flags.TEST_SEED = 0,
    checkpoint: flags.CHECKPOINT = None,
    device: flags.DEVICE = None,
    trust: flags.TRUST = False,
    csv: flags.CSV = None,
    force: flags.FORCE = False,
    json_output: flags.JSON = False,
) -> None:
    """Compare trained methods on the same test tasks, pair by pair, with 95% intervals.

    Runs that differ in their seeds alone are one method. With three seeds and more a difference is
    judged across seeds, with fewer across test tasks; p values are corrected for their number.
    """
    check_outputs(csv, force=force)
    load_torch()
    from binomctl.cli.comparing import Question, compared_runs
    from binomctl.comparison.methods import opened
    from binomctl.errors import ConfigError

    found = opened(runs)
    question = Question(reference, tasks, adaptation_steps, split, seed, checkpoint, device)
    (section,) = compared_runs(found, question, trust=trust, one=True)
    report = section.report
    if report is None:
        if unsaved := [str(run.path) for run, _ in found if not run.checkpoints.steps()]:
            raise ConfigError(
                f"nothing to compare: {', '.join(unsaved)} has saved nothing yet",
                "Wait for a first checkpoint.",
            )
        raise ConfigError(
            f"{number_of(len(found), 'run')} of one method: nothing to compare",
            "Give runs of two methods at least.",
        )
    for warning in report["warnings"]:
        print_note(f"warning: {warning}")
    if csv is not None:
        from binomctl.comparison.tables import csv_rows

        write_csv(csv, csv_rows([section]))
    if json_output:
        print_json(report)
        return
    _print(report)


def _print(report: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from binomctl.comparison.words import TIME, words

    console = Console(highlight=False)
    seeds, n, pairs = len(report["seeds"]), report["n"], report["pairs"]
    wide = console.width >= 110
    tasks = number_of(n, f"{report['split']} task")
    title = f"{report['metric']} on {tasks}, the same for every run; {number_of(seeds, 'seed')}"
    table = Table(box=box.SIMPLE)
    table.add_column("method", overflow="fold", min_width=10)
    table.add_column("mean ± s.e.", justify="right", no_wrap=True)
    table.add_column("difference (95% CI)" if wide else "difference", justify="right", no_wrap=True)
    for name in ("p (Holm)", "time") if wide else ():
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("verdict", overflow="fold", min_width=20)
    for pair in pairs:
        one = words(pair, report)
        more = [one.p, one.time, one.verdict] if wide else []
        difference = one.difference if wide else one.difference.partition(" (")[0]
        table.add_row(*map(Text, [one.label, one.mean, difference, *more]))
    print_titled(console, title, table)
    if not wide:
        for pair in pairs:
            one = words(pair, report)
            interval = f"; {one.difference}" if pair["ci95"] else ""
            console.print(Text(f"{one.label}: {one.verdict}{interval}"))
        print_left_out(console, ("p (Holm)", "time"))
        console.print()
    over = " and ".join(sorted({pair["over"] for pair in pairs} - {None}))
    console.print(Text(
        f"Compared with {report['reference']}. s.e.: standard error of the mean over {tasks}."
        f" Differences: in pairs, Student t over {over}; p corrected by Holm for"
        f" {number_of(len(pairs) - 1, 'comparison')}. Bootstrap intervals: --json."
        + (f" {TIME}" if wide else "")
    ), style="dim")  # fmt: skip
