"""What a training would be: the page of `binomctl train --dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from binomctl.cli.console import print_json
from binomctl.cli.counting import Counting

if TYPE_CHECKING:
    from binomctl.problem.record import Problem
    from binomctl.profiling.forecast import Forecast


def print_layers(problem: Problem, json_output: bool) -> None:
    """Shapes; the engine that was chosen, why it is no faster one, its layers with their ways; what
    the training would take."""
    from dataclasses import asdict

    from binomctl.curvature.prepared import rung_of
    from binomctl.curvature.traits import traits_of
    from binomctl.profiling.forecast import PIECES, forecast

    engine, model = problem.engine, type(problem.model).__name__
    rung = rung_of(engine)
    traits = traits_of(engine)
    layers, why = traits.layers, traits.slower
    batch = problem.training_batch(range(1))
    shapes = {
        "x_trn": _shape(batch.x_trn), "y_trn": _shape(batch.y_trn),
        "x_val": _shape(batch.x_val), "y_val": _shape(batch.y_val),
    }  # fmt: skip
    with Counting("trying", PIECES, "meta-steps") as counting:
        expected = forecast(problem, counting.advance)
    if json_output:
        named = [dict(zip(("path", "layer", "way"), row, strict=True)) for row in layers]
        print_json(
            {
                "schema": "binomctl/dry-run/1",
                "model": model,
                "parameters": engine.layout.d,
                "task": shapes,
                "rung": rung,
                "why": why,
                "layers": named,
                "forecast": asdict(expected),
            }
        )
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = f"{model}, {engine.layout.d:,} trainable parameters: {_RUNGS[rung]}"
    console.print(title, style="bold", highlight=False)
    sizes = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    console.print(f"a task: {sizes}", highlight=False, markup=False)
    if not layers and why:
        console.print(f"no layer algebra: {why}", style="dim", markup=False)
    if layers:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("path", style="bold", overflow="fold")
        table.add_column("layer", overflow="fold")
        table.add_column("computed by", style="cyan", overflow="fold")
        for row in layers:
            table.add_row(*row)
        console.print(table)
    console.print(_worded(expected), highlight=False, markup=False)


def _shape(value: Any) -> Any:
    """The shape of one task's inputs or targets; of several tensors, by name or in order."""
    from torch.utils._pytree import tree_map

    return tree_map(lambda t: list(t.shape[1:]), value)


def _worded(found: Forecast) -> str:
    from datetime import timedelta

    whole = timedelta(seconds=round(found.seconds))
    text = (
        f"forecast: {found.steps:,} meta-steps of {found.step_ms:,.1f} ms and {found.validations:,}"
        f" validations of {found.validation_s:,.1f} s take {whole} on this machine as it is now;"
        f" tensors of {found.memory_bytes / 2**20:,.0f} MiB at a meta-step's peak"
    )
    return text + ("; compiled, as the run would be, steps are faster" if found.compiled else "")


_RUNGS = {
    "algebra": "the layer algebra, without autograd",
    "vmap": "autograd, all tasks in one call",
    "loop": "autograd, task by task in threads",
    "alone": "autograd, task by task alone",
}
