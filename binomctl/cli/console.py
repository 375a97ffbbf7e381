"""What commands print: tables and one JSON object on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from binomctl.errors import BinomctlError, cannot_write

_HUSHED = False


def hush() -> None:
    """From now on this process prints errors alone: another one of the run speaks."""
    global _HUSHED
    _HUSHED = True


def hushed() -> bool:
    """Whether `hush` was called."""
    return _HUSHED


def print_error(error: BinomctlError) -> None:
    """One line of what was wrong, one of what to do."""
    console = Console(stderr=True, highlight=False)
    console.soft_wrap = not console.is_terminal  # a log keeps one line one line
    console.print(Text.assemble(("error: ", "bold red"), str(error)))
    if error.hint:
        console.print(Text(error.hint))


def print_json(value: dict[str, Any]) -> None:
    """Exactly one JSON object on stdout."""
    if not _HUSHED:
        sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")


def print_note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    if not _HUSHED:
        sys.stderr.write(text + "\n")


class NotesHandler(logging.Handler):
    """Shows what a library's part says to the person who waits."""

    def emit(self, record: logging.LogRecord) -> None:
        print_note(record.getMessage())


def show_notes() -> None:
    """Lines of the logger "binomctl.notes" go to stderr from now on."""
    notes = logging.getLogger("binomctl.notes")
    if not notes.handlers:
        notes.addHandler(NotesHandler())
        notes.setLevel(logging.INFO)


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows as CSV and say so; raises ConfigError where the file cannot be written."""
    import csv

    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    except OSError as error:
        raise cannot_write(path, error.strerror) from error
    print_note(f"wrote {path}")


def print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Two columns, name and value, on stdout."""
    if _HUSHED:
        return
    table = Table(title=title, title_justify="left", show_header=False, box=box.SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))  # names of folders are no markup
    Console().print(table)
