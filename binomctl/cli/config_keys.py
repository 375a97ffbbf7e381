"""`binomctl config keys` and `binomctl config show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.config import worded
from binomctl.cli.console import print_json
from binomctl.cli.loading import load_torch


def keys(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Only keys with these in them.")
    ] = None,
    dataset: flags.DATASET = None,
    model: flags.MODEL = None,
    estimator: flags.ESTIMATOR = None,
    rule: flags.RULE = None,
    json_output: flags.JSON = False,
) -> None:
    """List every key of a configuration with its type, its default and what it means."""
    from dataclasses import asdict

    load_torch()
    from binomctl.settings.keys import keys as every
    from binomctl.settings.layers import Places

    named = {"dataset": dataset, "model": model, "estimator": estimator, "rule": rule}
    with Places({f"{name}.name": f"--{name}" for name in named}).naming():
        found = every({k: v for k, v in named.items() if v is not None})
    found = [k for k in found if all(w.lower() in f"{k.name} {k.doc}".lower() for w in words or [])]
    if json_output:
        print_json({"schema": "binomctl/config-keys/1", "keys": [asdict(key) for key in found]})
        return
    rows = [(k.name, worded(_plain(k.default)), f"{k.doc}  [{k.type}]") for k in found]
    _print_rows(("key", "default", "what it is"), rows)


def show(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE|RUN]...", help="YAML files, their names in configs/, or a run."
        ),
    ] = None,
    dataset: flags.DATASET = None,
    model: flags.MODEL = None,
    estimator: flags.ESTIMATOR = None,
    rule: flags.RULE = None,
    assign: flags.ASSIGN = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only keys that are not at their defaults.")
    ] = False,
    json_output: flags.JSON = False,
) -> None:
    """Print the configuration that a training would have, and where each key comes from."""
    load_torch()
    from binomctl.problem.build import resolved
    from binomctl.settings.layers import flat, load_config, recommended

    given = flags.given("training", dataset=dataset, model=model, estimator=estimator, rule=rule)
    asked = not any(path.is_dir() for path in files or [])  # a run's plugins are not imported
    settings, places = load_config([_file(p) for p in files or []], given, assign, asked=asked)
    with places.naming():
        full = resolved(settings)
    advice = flat(recommended(settings.dataset.name, settings.estimator.name))
    rows = []
    for key, value in flat(full.model_dump(mode="json")).items():
        origin = _origin(key, value, places, advice)
        if not (changed and origin == DEFAULT):
            rows.append((key, value, origin))
    if json_output:
        found = {key: {"value": value, "origin": origin} for key, value, origin in rows}
        print_json({"schema": "binomctl/config-show/1", "keys": found})
        return
    _print_rows(("key", "value", "from"), [(k, worded(v), origin) for k, v, origin in rows])


DEFAULT = "default"


def _origin(key: str, value: Any, places: dict[str, str], advice: dict[str, Any]) -> str:
    """Where a value is from: a line of a file, an option, a plugin's advice, the defaults."""
    for said in (key, key.removesuffix(".name")):  # "model: conv4" says model.name
        if said in places:
            return places[said]
    if key in advice and advice[key] == value:
        return "recommended by the data set or the estimator"
    return DEFAULT


def _file(path: Path) -> Path:
    """A YAML file, or that of a run."""
    from binomctl.runs import RunDirectory

    return RunDirectory.open(path).path / "config.yaml" if path.is_dir() else path


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _print_rows(head: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> None:
    """A table, or on a narrow terminal a paragraph a row."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    if not rows:
        console.print("nothing")
        return
    if console.width < 76:
        for key, value, last in rows:
            console.print(f"{key} = {value}\n  {last}")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name, style in zip(head, ("bold", "", "dim"), strict=True):
        table.add_column(name, style=style, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
