"""How far a sweep is: one line for all of it, and a table of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from binomctl.cli.console import print_left_out
from binomctl.metric import Metric
from binomctl.settings.durations import worded
from binomctl.sweeps.folder import CellState, remaining, share_done
from binomctl.words import number_of

REASON = 100  # characters of what went wrong in a table; --json has all
WIDE = 80
BAR = 30  # characters of the longest bar


def summary(states: Sequence[CellState], jobs: int) -> str:
    """How many cells are in which state, how much of all steps is done, the time left."""
    counts = {state: sum(s.state == state for s in states) for state in
              ("done", "running", "queued", "stopped", "failed", "waiting")}  # fmt: skip
    said = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    text = f"{number_of(len(states), 'cell')}: {said}; {share_done(states):.0%} of all steps"
    left = remaining(states, jobs)
    return text + (f", about {worded(left)} left" if left else "")


def sweep_table(states: Sequence[CellState], jobs: int, width: int) -> Any:
    """What rich prints of a sweep: the summary, a bar, a row a cell."""
    wide = width >= WIDE
    table = Table(box=box.SIMPLE)
    table.add_column("cell", overflow="fold", min_width=12)
    table.add_column("state")
    if wide:
        table.add_column("step", justify="right")
    table.add_column("best validation" if wide else "best", overflow="fold")
    if wide:
        table.add_column("left", justify="right")
    for one in states:
        best = "-"
        if one.value is not None:
            best = Metric(one.metric, one.unit, True).worded(one.value)
        time_left = "-" if one.left is None or one.state == "done" else worded(one.left)
        row = [one.name, _state(one, wide), *([f"{one.step}/{one.steps}"] if wide else []), best,
               *([time_left] if wide else [])]  # fmt: skip
        table.add_row(*map(Text, row))
    full = min(width, BAR)
    done = round(full * share_done(states))
    return [Text(summary(states, jobs)), Text("━" * done + "╌" * (full - done)), table]


def print_sweep(states: Sequence[CellState], jobs: int) -> None:
    """The table on stdout."""
    console = Console(highlight=False)
    console.print(*sweep_table(states, jobs, console.width), sep="\n")
    print_left_out(console, () if console.width >= WIDE else ("step", "time left"))


def _state(one: CellState, wide: bool) -> str:
    """Where there is no column of steps a cell that is under way says its own."""
    state = one.state
    if not wide and one.state in ("running", "stopped"):
        state += f" {one.step}/{one.steps}"
    reason = one.reason if len(one.reason) <= REASON else f"{one.reason[:REASON]}..."
    return f"{state}: {reason}" if reason else state
