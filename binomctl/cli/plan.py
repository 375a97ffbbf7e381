"""`binomctl profile --plan`: what fits a budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binomctl.cli.console import print_json, print_left_out, print_note, print_titled
from binomctl.cli.counting import Counting

if TYPE_CHECKING:
    from binomctl.problem.cases import Case
    from binomctl.problem.record import Problem
    from binomctl.profiling.plan import Choice
    from binomctl.settings.config import Config

SHOWN = 12
PARTS = 3  # fitting, expected errors, the best
BATCHES = 2  # meta-batches that expected errors are measured on


def run_plan(
    problem: Problem,
    settings: Config,
    memory: str | None,
    time: str | None,
    json_output: bool,
    config: Sequence[Path] = (),
) -> None:
    """Fit, predict, print the best choices, measure the first of them.

    Args:
        settings: the configuration as it was asked for; config: its files.

    Raises:
        ResourceError: nothing fits, or the best does not, as it is measured.
    """
    from binomctl.errors import ResourceError
    from binomctl.machine.memory import out_of_memory_in_words
    from binomctl.problem.cases import cases_of
    from binomctl.profiling.budgets import size_of, time_of
    from binomctl.profiling.plan import best, check, choices, fit, tight

    size, seconds = size_of(memory), time_of(time)
    less = "A plan measures whole steps first: take fewer tasks (--meta-batch)."
    short = out_of_memory_in_words(problem.device, less)
    with short, Counting("planning", PARTS, "parts") as counting:
        cells = cases_of(problem, "profile")
        model = fit(problem, counting.doing)
        counting.advance()
        counting.doing(f"expected errors, {BATCHES} batches")
        found = choices(problem, cells, model, expected(problem, cells))
        fitting = best(found, size, seconds)
        counting.advance()
        counting.doing("measuring the best")
        checked = check(problem, fitting[0]) if fitting else None
    nearest = [] if fitting else list(tight(found))
    command = train_command(settings, fitting[0], config) if fitting else None
    if json_output:
        print_json(
            {
                "schema": "binomctl/plan/1",
                "budget": {"memory": memory, "time": time},
                "fitting": [_row(choice) for choice in fitting],
                "chosen": _row(fitting[0]) | (checked or {}) if fitting else None,
                "command": command,
                "nearest": nearest,
            }
        )
    elif checked is not None:
        _print(fitting, checked)
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(command, markup=False)
    if checked is None:
        raise ResourceError("nothing fits the budget", "\n".join(nearest))
    here = checked["measured"]
    if here["bytes"] > size or here["seconds"] > seconds:
        raise ResourceError(
            f"measured, the best exceeds the budget: {here['bytes'] / 2**20:,.0f} MiB,"
            f" {1e3 * here['seconds']:.4g} ms",
            "Take the next one, or give a wider budget.",
        )


def expected(problem: Problem, cells: Sequence[Case]) -> dict[str, float]:
    """The median relative error of the meta-gradient over tasks, by the label of a cell, measured
    at the initial weights; without those that estimate none, or fail."""
    from statistics import median

    from binomctl.analysis.errors import analyse
    from binomctl.contracts import PseudoGradient
    from binomctl.errors import NonFiniteError

    own = [cell for cell in cells if not isinstance(cell.estimator, PseudoGradient)]
    found: list[Any] = []
    try:
        for found, _ in analyse(problem, problem.theta, problem.m, own, BATCHES):  # noqa: B007
            pass
    except NonFiniteError as error:  # of the exact meta-gradient: the inner loop diverges
        print_note(f"no expected errors: {error}")
        return {}
    return {e.case.label: median(e.task_relative) for e in found if e.task_relative}


def train_command(config: Config, choice: Choice, files: Sequence[Path]) -> str:
    """The command that trains with a choice: the files that were given, and whatever else the
    measured configuration has that they and the defaults do not say."""
    import inspect
    import json
    import shlex

    from binomctl.cli.flags import KEYS
    from binomctl.cli.train import train
    from binomctl.settings.layers import flat, load_config

    chosen: dict[str, Any] = {"name": choice.cell.name, **choice.cell.options}
    wanted = choice.cell.config(config).model_dump(mode="json")
    wanted["engine"] |= {"memory": choice.memory, "task_chunk": choice.chunk}
    names = {f"{part}.name": wanted[part]["name"] for part in ("estimator", "dataset", "model",
                                                               "rule")}  # fmt: skip
    left = flat(load_config(list(files), names)[0].model_dump(mode="json"))
    have = flat(load_config(list(files))[0].model_dump(mode="json"))
    said = {k: name for k, name in names.items() if have.get(k) != name or k == "estimator.name"}
    for key, value in flat({**wanted, "estimator": chosen}).items():
        if key.partition(".")[0] not in ("profile", "analysis") and left.get(key) != value:
            said[key] = value
    known = {name.rstrip("_") for name in inspect.signature(train).parameters}
    options = {key: f"--{name.replace('_', '-')}" for name, key in KEYS.items() if name in known}
    words = ["binomctl", "train"]
    for path in files:
        words += ["--config", str(path)]
    for key, value in said.items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += [options[key], text] if key in options else ["--set", f"{key}={text}"]
    return shlex.join(words)


def _row(choice: Choice) -> dict[str, Any]:
    return {
        "estimator": choice.cell.name,
        "L": choice.cell.L,
        "C": choice.cell.C,
        "options": choice.cell.others,
        "exact": choice.exact,
        "expected_error": choice.error,
        "same": list(choice.same),
        "memory": choice.memory,
        "task_chunk": choice.chunk,
        "hvps": choice.products,
        "predicted_seconds": choice.seconds,
        "predicted_bytes": round(choice.bytes),
    }


def _print(fitting: list[Choice], checked: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    title = (
        "What fits, predicted: the least expected error of the meta-gradient first (median"
        " over tasks at the initial weights), each under its fastest schedule"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("estimator", overflow="fold")
    names = ["error", "ms", "MiB", "memory", "chunk", "HVPs"]
    names, left = (names, []) if console.width >= 60 else (names[:3], names[3:])
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for c in fitting[:SHOWN]:
        error = "" if c.error is None else "exact" if c.exact else f"{c.error:.2g}"
        row = [error, f"{1e3 * c.seconds:.4g}", f"{c.bytes / 2**20:,.0f}", c.memory, str(c.chunk)]
        row.append(str(c.products))
        table.add_row(" = ".join((c.cell.label, *c.same)), *row[: len(names)])
    print_titled(console, title, table)
    print_left_out(console, left)
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
