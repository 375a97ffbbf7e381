"""A grid file: which configurations, each a cell with a folder of its own.

    base: FILE or [FILE, ...]        configuration files under every cell, beside the grid file,
                                     or names of those that come with binomctl
    common: {KEY: VALUE}             keys of every cell
    cross: {KEY: [VALUE, ...]}       every combination with every method
    methods: [{KEY: VALUE or [VALUE, ...]}, ...]   each a grid of its own

Later ones win. KEY is a configuration key with dots, or `config`: files under the keys beside it. A
value that is a list by itself stands in a list.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binomctl.errors import ConfigError, unknown
from binomctl.files.yaml_source import read_yaml, shown
from binomctl.settings import named
from binomctl.settings.config import Config
from binomctl.settings.layers import load_config

SECTIONS = ("base", "common", "cross", "methods")
FILES = "config"


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: its name, which is its folder's, and its configuration."""

    name: str
    config: Config


def read_grid(path: Path) -> list[Cell]:
    """The cells of a grid file, or of a grid that comes with binomctl, in its order.

    Raises:
        ConfigError: an unknown key, a value that does not fit, two cells with one name; the grid
            file and the place are named.
    """
    path = named.find(path, grid=True)
    data, places = read_yaml(path, dots=True)
    for key in data:
        if key not in SECTIONS:
            at = places.get(key, str(path))
            raise ConfigError(
                f"{at}: {unknown('key of a grid', key, SECTIONS)}",
                "A configuration of one run is for 'binomctl train --config'.",
            )
    common = _mapping(data.get("common", {}), f"{path}: common")
    cross = _mapping(data.get("cross", {}), f"{path}: cross")
    methods = data.get("methods", [{}])
    if not isinstance(methods, list) or not methods:
        raise ConfigError(f"{path}: methods is no list of grids", "Begin each with a dash.")
    cells: dict[str, Cell] = {}
    for number, method in enumerate(methods, 1):
        where = f"{path}: methods, number {number}"
        for chosen in _combinations(_mapping(method, where), where):
            for crossed in _combinations(cross, f"{path}: cross"):
                layers = [data.get("base", []), common, crossed, chosen]
                cell = _cell(path, layers, where)
                if cell.name in cells:
                    raise ConfigError(
                        f"{where}: two cells are called {cell.name}",
                        "Leave one out, or let them differ in a key of cross or methods.",
                    )
                cells[cell.name] = cell
    return list(cells.values())


def _cell(path: Path, layers: list[Any], where: str) -> Cell:
    """The cell of a base, what is common, what is crossed and a method, files under keys."""
    base, *rest = layers
    files: list[Path | dict[str, Any]] = [*_files(path, base)]
    for part in rest:
        files += _files(path, part.get(FILES, []))
        files.append({key: value for key, value in part.items() if key != FILES})
    varied = {**rest[-1], **rest[-2], **rest[-1]}  # the method's first, and they win
    varied.pop(FILES, None)
    try:
        config, _ = load_config(files)
    except ConfigError as error:
        said = ", ".join(f"{k}={v}" for k, v in varied.items())
        raise ConfigError(f"{where} ({said}): {error}", error.hint) from error
    listed = [_files(path, part.get(FILES, [])) for part in (rest[-1], rest[-2])]
    stems = [file.stem for part in listed for file in part]
    return Cell(name_of(config, varied, stems), config)


def name_of(config: Config, varied: dict[str, Any], stems: list[str]) -> str:
    """Of a cell: the data set, the estimator, what the grid varies and its files' names without
    their suffix, as a folder's name."""
    parts = [config.dataset.name, config.estimator.name]
    parts += [stem for stem in stems if stem not in parts]
    for key, value in varied.items():
        last = key.rpartition(".")[2]
        if key in ("estimator.name", "dataset.name", "seed"):
            continue
        parts.append(f"{last}{value}")
    name = "-".join([*parts, f"seed{config.seed}"])
    return re.sub(r"[^\w.+-]+", "_", name).strip("._")


def _combinations(grid: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    keys = list(grid)
    lists = [value if isinstance(value, list) else [value] for value in grid.values()]
    for key, values in zip(keys, lists, strict=True):
        if not values:
            raise ConfigError(f"{where}: {key} has no values", "Name one at least.")
    for chosen in itertools.product(*lists):
        yield dict(zip(keys, chosen, strict=True))


def _files(path: Path, value: Any) -> list[Path]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise ConfigError(f"{path}: {shown(repr(value))} is no file nor a list of files")
    return [_file(path.parent / one, Path(one)) for one in listed]


def _file(beside: Path, said: Path) -> Path:
    """A file beside the grid, or what comes with binomctl under a name."""
    return beside if said.suffix or beside.is_file() else named.find(said)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """Keys with dots, whether they were written with dots or nested."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {shown(repr(value))}, not keys with values")
    return {str(key): inner for key, inner in value.items()}
