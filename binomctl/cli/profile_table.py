"""A profile as a table, with bars of the time where the terminal is wide enough."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from binomctl.cli.console import print_left_out, print_titled
from binomctl.reporting.labels import named

WIDE, NARROW = 114, 60


def print_profile(report: dict[str, Any]) -> None:
    """All cells on stdout: what fits the terminal of time, memory, utilisation, rate, work."""
    console = Console(highlight=False)
    cells = report["cells"]
    rates = report["rates_flops_per_second"]
    title = (
        f"{report['caption']}\nms: median (p10 to p90) of whole meta-steps; MiB: peak memory"
        " of a step"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("estimator", overflow="fold")
    every = ["L", "ms", "MiB", "busy", "of peak", "GFLOP/s", "HVPs", "depth", "query/hvp ms"]
    fit = 3 if console.width < NARROW else 5 if console.width < WIDE else len(every)
    names = every[:fit]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    room = console.width - (106 if console.width >= WIDE else 65)
    bars = room >= 8
    if bars:
        table.add_column("ms")
    slowest = max((c["step_ms"]["median"] for c in cells if c["step_ms"]), default=1.0)
    for cell in cells:
        row: list[str | Text] = [_label(cell), "" if cell["L"] is None else str(cell["L"])]
        row += _figures(cell, console.width)[: len(names) - 1]
        if bars and cell["step_ms"]:
            length = max(1, round(min(room, 30) * cell["step_ms"]["median"] / slowest))
            row.append(Text("━" * length))
        table.add_row(*row)
    print_titled(console, title, table)
    print_left_out(console, every[fit:])
    console.print(
        f"torch's peak now: {rates['matrix_product'] / 1e9:.0f} GFLOP/s in a matrix product,"
        f" {rates['convolution'] / 1e9:.0f} in a convolution"
    )
    for cell in cells:
        if cell["failed"]:
            order = "" if cell["L"] is None else f" L={cell['L']}"
            console.print(Text(f"{_label(cell)}{order}: {cell['failed']}"))  # no markup
    for what, key in (("utilisation", "utilization_reason"), ("memory", "memory_reason")):
        for reason in sorted({c[key] for c in cells if c.get(key)}):
            console.print(Text(f"no {what}: {reason}"))


def _label(cell: dict[str, Any]) -> str:
    name = named(cell)
    return name if cell["C"] is None else f"{name} C={cell['C']}"


def _figures(cell: dict[str, Any], width: int) -> list[str | Text]:
    memory = cell["peak_memory_bytes"]
    mib = "" if memory is None else f"{memory / 2**20:,.0f}"
    if not cell["step_ms"]:
        return ["failed" if cell["failed"] else "-", mib, "", "", "", "", "", ""]
    step, busy, share = cell["step_ms"], cell["utilization"], cell["share_of_peak"]
    ms = f"{step['median']:.4g}"
    if width >= NARROW:
        ms += f" ({step['p10']:.4g} to {step['p90']:.4g})"
    parts = cell["phases_ms"]
    split = "one step"
    if "query" in parts:
        split = f"{parts['query']['median']:.3g}/{parts['meta_gradient']['median']:.3g}"
    return [
        ms,
        mib,
        "-" if not busy else f"{busy['value']:.0%}",
        f"{share['matrix_product']:.0%}",
        f"{cell['flops_per_second'] / 1e9:.1f}",
        str(cell["hvps"]),
        str(cell["depth"]),
        split,
    ]
