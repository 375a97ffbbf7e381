"""`binomctl predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, print_titled, write_csv
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs
from binomctl.words import number_of

if TYPE_CHECKING:
    from binomctl.cli.adapting import Given

ROWS = 40  # of a table in the terminal


def predict(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN|ADAPTED", help="Run of 'train', or folder of 'adapt'."),
    ],
    query: Annotated[
        Path,
        typer.Option(
            help="What to label: a picture, a folder of them, or class folders; regression: a CSV."
        ),
    ],
    support: Annotated[
        Path | None,
        typer.Option(help="What a run learns from: class folders of pictures; regression: a CSV."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--csv", "--output", "-o", help="The predictions as CSV.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="A contact sheet: .png, .svg or .pdf.")] = None,
    adaptation_steps: flags.STEPS = None,
    invert: flags.INVERT = None,
    checkpoint: flags.CHECKPOINT = None,
    device: flags.DEVICE = None,
    trust: flags.TRUST = False,
    force: flags.FORCE = False,
    json_output: flags.JSON = False,
) -> None:
    """Learn new classes from a few examples and label others: no training data are needed."""
    load_torch()
    from binomctl.cli.adapting import Support, given
    from binomctl.reporting.figures import check_suffix

    check_outputs(output, check_suffix(sheet) if sheet else None, force=force)
    asked = Support(support, adaptation_steps, invert, checkpoint)
    found = given(run, asked, device=device, trust=trust)
    if found.regression and (sheet is not None or invert is not None):
        from binomctl.errors import ConfigError

        raise ConfigError(
            f"{'--sheet' if sheet is not None else '--invert'} is for pictures, and {run} learned"
            " on numbers",
            "Leave it out.",
        )
    report = _numbers(found, query) if found.regression else _pictures(found, query, sheet)
    report = {"schema": "binomctl/predict/1", "run": str(run), **found.about, **report}
    if output is not None:
        from binomctl.learner.answers import csv_rows

        write_csv(output, csv_rows(report))
    if json_output:
        print_json(report)
    elif found.regression:
        _print_numbers(report)
    else:
        _print(report)


def _pictures(found: Given, query: Path, sheet: Path | None) -> dict[str, Any]:
    from binomctl.learner.answers import classified, shots_in_words
    from binomctl.learner.pictures import query_pictures

    adapted = found.adapted
    classes = [str(one) for one in adapted.classes]
    asked = query_pictures(query, found.shape, classes)
    if adapted.transductive:
        print_note(
            f"batch norm normalises the {len(asked.paths)} queries together: an answer depends on"
            " the others"
        )
    places = [str(path) for path in asked.paths]
    report = {
        "transductive": adapted.transductive,
        **classified(places, adapted.predict(asked.x), classes, asked.labels),
    }
    if sheet is not None:
        from binomctl.reporting.figure_sheet import draw_sheet

        def shown(x: Any) -> list[Any]:
            return list(x.permute(0, 2, 3, 1).numpy())

        by_class = []
        if found.known is not None:
            labels = found.known.labels or ()
            by_class = [(n, shown(found.known.x[[one == n for one in labels]])) for n in classes]
        rows = report["predictions"]
        queries = [
            (picture, row["label"], row["probability"], row["true"])
            for picture, row in zip(shown(asked.x), rows, strict=True)
        ]
        shots = shots_in_words(found.about["shots"])
        step = found.about["checkpoint_step"]
        draw_sheet(
            by_class,
            queries,
            f"{adapted.config.dataset.name}, step {step}; support: {shots}",
            sheet,
        )
        print_note(f"wrote {sheet}")
    return report


def _numbers(found: Given, query: Path) -> dict[str, Any]:
    from binomctl.learner.answers import estimated
    from binomctl.learner.numbers import read_numbers

    adapted = found.adapted
    n, d = adapted.in_shape[0], adapted.out_dim
    asked = read_numbers(query, (n, n + d))
    truth = asked[:, n:] if asked.shape[1] > n else None
    return estimated(asked[:, :n], adapted.predict(asked[:, :n]), truth)


def _print(report: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = report["predictions"]
    known = report["accuracy"] is not None
    title = f"{number_of(len(rows), 'query')}, {number_of(len(report['classes']), 'class')}"
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("query", "label", "probability", *(["true"] if known else [])):
        table.add_column(
            name, overflow="fold", justify="right" if name == "probability" else "left"
        )
    for row in rows[:ROWS]:
        cells = [row["query"], row["label"], f"{row['probability']:.3f}"]
        cells += [row["true"] if row["true"] != row["label"] else ""] if known else []
        table.add_row(*map(Text, cells))
    print_titled(console, title, table)
    if len(rows) > ROWS:
        console.print(f"{len(rows) - ROWS} more: -o FILE has them all")
    if known:
        a = report["accuracy"]
        console.print(
            f"accuracy {a['mean']:.1%} (95% CI {a['ci95'][0]:.1%} to {a['ci95'][1]:.1%}, Wilson,"
            f" n = {number_of(a['n'], 'query')} of this task)"
        )
        _print_confusion(console, report)


def _print_confusion(console: Any, report: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if all(
        c == 0 for i, row in enumerate(report["confusion"]) for j, c in enumerate(row) if i != j
    ):
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in report["classes"]:
        table.add_column(Text(name), justify="right")
    for name, row in zip(report["classes"], report["confusion"], strict=True):
        table.add_row(Text(name), *(str(count) if count else "." for count in row))
    print_titled(console, "true down, predicted across", table)


def _print_numbers(report: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    rows = report["predictions"]
    title = f"{number_of(len(rows), 'query')} after {number_of(report['shots'], 'example')}"
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("x", "prediction", *(["true"] if report["mse"] is not None else [])):
        table.add_column(name, justify="right")
    for row in rows[:ROWS]:
        known = [row["true"]] if row["true"] is not None else []
        parts = [row["x"], row["value"], *known]
        table.add_row(*(" ".join(f"{v:.4g}" for v in part) for part in parts))
    print_titled(console, title, table)
    if report["mse"] is not None:
        console.print(f"mse {report['mse']:.4g}, n = {number_of(len(rows), 'query')} of this task")
