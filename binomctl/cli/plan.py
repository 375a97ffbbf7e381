"""`binomctl profile --plan`: what fits a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from binomctl.cli.console import print_json, print_note

if TYPE_CHECKING:
    from binomctl.problem.record import Problem
    from binomctl.profiling.plan import Choice

SHOWN = 12


def run_plan(problem: Problem, memory: str | None, time: str | None, json_output: bool) -> None:
    """Fit, predict, print the best choices, measure the first of them."""
    from rich.console import Console

    from binomctl.problem.cases import cases_of
    from binomctl.profiling.plan import best, check, choices, fit, size_of, tight, time_of

    size, seconds = size_of(memory), time_of(time)
    with Console(stderr=True).status("fitting") as status:
        found = choices(problem, cases_of(problem, "profile"), fit(problem, status.update))
        fitting = best(found, size, seconds)
        status.update("measuring the best")
        checked = check(problem, fitting[0]) if fitting else None
    if json_output:
        print_json(
            {
                "schema": "binomctl/plan/1",
                "budget": {"memory": memory, "time": time},
                "fitting": [_row(choice) for choice in fitting],
                "chosen": _row(fitting[0]) | (checked or {}) if fitting else None,
                "nearest": [] if fitting else list(tight(found)),
            }
        )
        return
    _print(fitting, checked, list(tight(found)))
    here = checked["measured"] if checked else {"bytes": 0, "seconds": 0}
    if here["bytes"] > size or here["seconds"] > seconds:
        print_note("measured, it exceeds the budget: take the next one, or a wider budget")


def _row(choice: Choice) -> dict[str, Any]:
    return {
        "estimator": choice.cell.name,
        "L": choice.cell.L,
        "C": choice.cell.C,
        "options": choice.cell.others,
        "exact": choice.exact,
        "memory": choice.memory,
        "task_chunk": choice.chunk,
        "hvps": choice.products,
        "predicted_seconds": choice.seconds,
        "predicted_bytes": round(choice.bytes),
    }


def _print(fitting: list[Choice], checked: dict[str, Any] | None, nearest: list[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if checked is None:
        console.print("nothing fits the budget")
        for line in nearest:
            console.print(line)
        return
    table = Table(
        title="What fits, predicted: the highest order first, each under its fastest schedule",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("estimator", overflow="fold")
    names = ["ms", "MiB", "memory", "chunk", "HVPs"] if console.width >= 60 else ["ms", "MiB"]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for c in fitting[:SHOWN]:
        row = [f"{1e3 * c.seconds:.4g}", f"{c.bytes / 2**20:,.0f}", c.memory, str(c.chunk)]
        row.append(str(c.products))
        table.add_row(c.cell.label + (" (exact)" if c.exact else ""), *row[: len(names)])
    console.print(table)
    if len(fitting) > SHOWN:
        console.print(f"and {len(fitting) - SHOWN} more; --json has all")
    chosen, ratio = fitting[0], checked["predicted_over_measured"]
    here = checked["measured"]
    console.print(
        f"chosen: {chosen.cell.label}, engine.memory={chosen.memory},"
        f" engine.task_chunk={chosen.chunk}"
    )
    console.print(
        f"measured: {1e3 * here['seconds']:.4g} ms (predicted / measured {ratio['seconds']:.2f}),"
        f" {here['bytes'] / 2**20:,.0f} MiB (predicted / measured {ratio['bytes'] or 0:.2f})"
    )
