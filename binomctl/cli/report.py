"""`binomctl report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_note
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs, results_among

if TYPE_CHECKING:
    from binomctl.comparison.report import Section

PAGE = "html"


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, or folders of them; and results of error-analysis, profile and"
            " compare (--json) whose pictures belong on the page.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Default: report.html; tables go to the terminal."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="html: one page; md, csv, latex: its tables.")
    ] = PAGE,
    title: Annotated[str | None, typer.Option(help="Default: the folders' names.")] = None,
    reference: flags.REFERENCE = None,
    tasks: flags.TASKS = None,
    adaptation_steps: flags.STEPS = None,
    split: flags.SPLIT = "test",
    seed: flags.TEST_SEED = 0,
    checkpoint: flags.CHECKPOINT = None,
    device: flags.DEVICE = None,
    trust: flags.TRUST = False,
    force: flags.FORCE = False,
) -> None:
    """Runs as one page: the tables of `compare`, a column a data set, ways and shots; curves,
    configurations, machines, and the numbers."""
    load_torch()
    from binomctl.comparison.tables import FORMATS
    from binomctl.errors import ConfigError, unknown

    if form not in (PAGE, *FORMATS):
        raise ConfigError(
            f"--format: {unknown('format', form, [PAGE, *FORMATS])}",
            "html is a page; the others are its tables.",
        )
    if output is None and form == PAGE:
        output = Path("report.html")
    if output is not None and form == PAGE and output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"--output: '{output}' does not end in .html",
            f"Name a page REPORT.html, or choose its tables: --format {', '.join(FORMATS)}.",
        )
    check_outputs(output, force=force)
    folders, results = results_among(runs)
    if form != PAGE and (results or not folders):
        raise ConfigError(
            f"--format {form}: tables are of runs{f', not {results[0][0]}' if results else ''}",
            "Give run folders alone.",
        )
    sections: list[Section] = []
    if folders:
        from binomctl.cli.comparing import Question, compared_runs
        from binomctl.comparison.methods import opened

        question = Question(reference, tasks, adaptation_steps, split, seed, checkpoint, device)
        sections = compared_runs(opened(folders), question, trust=trust)
    text = _text(form, sections, results, title or _title(runs))
    if output is None:
        typer.echo(text, nl=False)
        return

    from binomctl.files.atomic import write_atomic, writing

    with writing(output):
        write_atomic(output, text.encode())
    print_note(f"wrote {output}")


def _text(
    form: str,
    sections: Sequence[Section],
    results: Sequence[tuple[Path, dict[str, Any]]],
    title: str,
) -> str:
    from binomctl.comparison.tables import FORMATS, as_text
    from binomctl.errors import ConfigError

    for known in FORMATS:
        if form != known:
            continue
        if not any(section.report for section in sections):
            raise ConfigError("runs of one method: no table", "Give runs of two methods at least.")
        return as_text(sections, known)

    from functools import partial

    from binomctl.comparison.page import page
    from binomctl.comparison.records import caption_of, draw_record
    from binomctl.reporting.figures import as_svg

    pictures = [
        (*caption_of(path, record), as_svg(partial(draw_record, path, record)))
        for path, record in results
    ]
    return page(sections, title, pictures)


def _title(paths: Sequence[Path]) -> str:
    names = [path.name or str(path.absolute()) for path in paths]
    few = 3  # more would be a page of names before the first number
    return ", ".join(names[:few]) + (f" and {len(names) - few} more" if len(names) > few else "")
