"""What commands print: tables and one JSON object on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from binomctl.errors import BinomctlError


def print_error(error: BinomctlError) -> None:
    """One line of what was wrong, one of what to do."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("[bold red]error:[/] ", end="")
    console.print(str(error), markup=False)
    if error.hint:
        console.print(error.hint, markup=False)


def print_json(value: dict[str, Any]) -> None:
    """Exactly one JSON object on stdout."""
    sys.stdout.write(json.dumps(value) + "\n")


def print_note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    sys.stderr.write(text + "\n")


def print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Two columns, name and value, on stdout."""
    table = Table(title=title, title_justify="left", show_header=False, box=box.SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)
