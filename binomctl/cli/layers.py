"""What computes which layer of a model: the page of `binomctl train --dry-run`."""

from __future__ import annotations

from binomctl.cli.console import print_json
from binomctl.contracts import Engine


def print_layers(engine: Engine, model: str, json_output: bool) -> None:
    """The engine that was chosen, why it is no faster one, and its layers with their ways."""
    from binomctl.curvature.prepared import rung_of
    from binomctl.curvature.traits import traits_of

    rung = rung_of(engine)
    traits = traits_of(engine)
    layers, why = traits.layers, traits.slower
    if json_output:
        named = [dict(zip(("path", "layer", "way"), row, strict=True)) for row in layers]
        schema = "binomctl/dry-run/1"
        print_json(
            {
                "schema": schema,
                "model": model,
                "parameters": engine.layout.d,
                "rung": rung,
                "why": why,
                "layers": named,
            }
        )
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = f"{model}, {engine.layout.d:,} trainable parameters: {_RUNGS[rung]}"
    console.print(title, style="bold", highlight=False)
    if not layers:
        if why:
            console.print(f"no layer algebra: {why}", style="dim", markup=False)
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("path", style="bold", overflow="fold")
    table.add_column("layer", overflow="fold")
    table.add_column("computed by", style="cyan", overflow="fold")
    for row in layers:
        table.add_row(*row)
    console.print(table)


_RUNGS = {
    "algebra": "the layer algebra, without autograd",
    "vmap": "autograd, all tasks in one call",
    "loop": "autograd, task by task in threads",
    "alone": "autograd, task by task alone",
}
