"""What commands print: tables and one JSON object on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from binomctl.errors import BinomctlError, cannot_write
from binomctl.finite import finite

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
    """Exactly one JSON object on stdout; what is not finite, an interval of one task, is null."""
    if not _HUSHED:
        sys.stdout.write(json.dumps(finite(value), allow_nan=False) + "\n")


def print_note(text: str) -> None:
    """A line for the person at the terminal, on stderr; above a bar where one is drawn."""
    if _HUSHED:
        return
    if not sys.stderr.isatty():
        sys.stderr.write(text + "\n")  # a log keeps one line one line
        return
    text = wrapped(text)
    if (bars := sys.modules.get("tqdm")) is not None:  # where it was not imported there is no bar
        bars.tqdm.write(text, file=sys.stderr)
    else:
        sys.stderr.write(text + "\n")


def wrapped(text: str) -> str:
    """Lines that break between words where the terminal ends; a word that is too long stays one."""
    width = shutil.get_terminal_size().columns
    lines = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
             for line in text.splitlines())  # fmt: skip
    return "\n".join("\n".join(one) for one in lines)


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


def print_titled(console: Console, title: str, table: Table) -> None:
    """A table under its title. rich wraps a table's own title where the table ends, and a short
    table would break it in the middle of the screen."""
    console.print(Text(title, style="italic"))  # names of folders are no markup
    console.print(table)


def print_left_out(console: Console, columns: Sequence[str]) -> None:
    """Which columns a narrow terminal had no room for."""
    if columns:
        said = f"not shown at {console.width} columns: {', '.join(columns)}; --json has all"
        console.print(Text(said, style="dim"))


def print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Two columns, name and value, on stdout. A command that does not fit beside its name stands
    below the table in one piece, so that it can be copied."""
    if _HUSHED:
        return
    console = Console()
    table = Table(show_header=False, box=box.SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    listed = list(rows)
    room = console.width - max(len(name) for name, _ in listed) - 7  # of the box
    below = [value for name, value in listed if name == "next" and len(value) > room]
    for name, value in listed:
        if value not in below:
            table.add_row(name, Text(value))  # names of folders are no markup
    print_titled(console, title, table)
    for value in below:
        console.print(Text(f"next: {value}"), soft_wrap=True)
