"""Configurations and grids that come with binomctl, by name: binom2026, table1/glyphs-5way."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import binomctl
from binomctl.errors import ConfigError, unknown
from binomctl.settings.config import Config


def find(path: Path, *, grid: bool = False) -> Path:
    """The file that a user named: one that is there, else the one that comes with binomctl.

    Args:
        path: a file, or a name without a suffix, "binom2026" or "methods/anil"; a file of the
            working folder wins.
        grid: whether a grid of configurations is wanted, and not one of them.

    Raises:
        ConfigError: an unknown name, or one of the other sort.
    """
    if _is_there(path) or (path.is_dir() and path.as_posix() not in names(grid=grid)):
        return path  # whoever opens a folder says that it is one
    wanted, others = names(grid=grid), names(grid=not grid)
    name = path.as_posix()
    if path.suffix in (".yaml", ".yml"):
        known = _nearest(path.with_suffix("").as_posix().removeprefix("configs/"), wanted)
        if known is None:
            return path  # whoever opens it says that it is not there
        raise ConfigError(
            f"there is no file {path}",
            f"One that comes with binomctl is called by its name: {known}.",
        )
    if name in wanted:
        return folder() / f"{name}.yaml"
    if name in others:
        is_one = "a configuration, not a grid of them" if grid else "a grid of configurations"
        instead = f"train --config {name}" if grid else f"sweep {name}"
        raise ConfigError(f"'{name}' is {is_one}", f"'binomctl {instead}' takes it.")
    raise ConfigError(
        unknown("grid" if grid else "configuration", name, wanted),
        "Give one of these names, or the path of a YAML file.",
    )


def names(*, grid: bool = False) -> list[str]:
    """The names that come with binomctl, of grids or of configurations, sorted."""
    inside = folder()
    found = [p for p in inside.rglob("*.yaml") if _is_grid(p) == grid]
    return sorted(p.relative_to(inside).with_suffix("").as_posix() for p in found)


def folder() -> Path:
    """Where they lie: in the package, or beside it in a clone."""
    package = Path(binomctl.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _is_there(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()  # a pipe is a file to read as well
    except (OSError, ValueError):  # whoever opens it says why it cannot be
        return True


def _is_grid(path: Path) -> bool:
    """Whether it holds what no configuration does."""
    keys = re.findall(r"^(\w+):", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return not set(keys) <= set(Config.model_fields)


def _nearest(name: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.9)), None)
