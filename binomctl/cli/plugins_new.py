"""`binomctl plugins new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note


def new(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="estimator, dataset, rule, update, problem or tracker."
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What configurations will call it.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The folder, which is made; default binomctl-NAME."),
    ] = None,
    json_output: flags.JSON = False,
) -> None:
    """Write a small distribution with one plugin that works: its module, its test, a README."""
    from binomctl.starters import used_as, written

    folder = out or Path(f"binomctl-{name}")
    files = written(kind, name, folder)
    if json_output:
        said = {"folder": str(folder), "files": [str(path) for path in files]}
        print_json({"schema": "binomctl/plugins-new/1", **said})
        return
    typer.echo("\n".join(str(path) for path in files))
    print_note(f"try it: cd {folder} && binomctl train {used_as(kind, name)} --steps 20")
    print_note(f"its test: cd {folder} && python -m pytest")
    print_note(f"install it: pip install -e {folder}")
