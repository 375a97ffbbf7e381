"""`binomctl doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json
from binomctl.cli.loading import load_torch

if TYPE_CHECKING:
    from binomctl.machine.doctor import Finding


def doctor(
    json_output: flags.JSON = False,
) -> None:
    """Say what this machine has of what binomctl needs and can use; exit 7 where it is broken."""
    load_torch()
    from binomctl.errors import MissingDependencyError
    from binomctl.images.learn2learn import INSTALL
    from binomctl.machine.doctor import Finding, examine, package
    from binomctl.settings import registry

    found = examine()
    found.append(package("learn2learn", INSTALL))
    failed = [p for p in registry.describe() if p.failure]
    total = sum(len(registry.names(kind)) for kind in registry.KINDS)
    found.append(Finding("plugins", "good", f"{total - len(failed)} loaded"))
    for one in failed:
        said = f"{one.kind} '{one.name}' of {one.distribution}: {one.failure}"
        found.append(Finding("plugin", "broken", said, "Everything else still works."))
    broken = [one for one in found if one.state == "broken"]
    if json_output:
        print_json({
            "schema": "binomctl/doctor/1", "good": not broken,
            "findings": [one.record() for one in found],
        })  # fmt: skip
    else:
        _print(found)
    if broken:
        raise typer.Exit(MissingDependencyError.exit_code)


def _print(found: list[Finding]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    styles = {"good": "green", "absent": "yellow", "broken": "bold red"}
    for one in found:
        said = one.said + (f"\n{one.hint}" if one.hint else "")
        table.add_row(one.name, Text(one.state, style=styles[one.state]), Text(said))
    Console().print(table)
