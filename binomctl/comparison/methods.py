"""Runs sorted into methods: what differs but in the seed is another method."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from binomctl.contracts import ExactAtOrder
from binomctl.errors import CheckpointError, ConfigError
from binomctl.reporting.labels import with_options
from binomctl.runs import RunDirectory
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.layers import flat

# What may differ between runs of one method: it decides where and how fast, not what is learned.
ASIDE = ("seed", "label", "device", "engine", "analysis", "profile", "trackers")


@dataclass
class Method:
    """Runs that differ in their seeds alone, by seed, and what they are called."""

    config: Config
    label: str = ""
    runs: dict[int, Path] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether its estimator is the exact meta-gradient."""
        chosen = self.config.estimator
        try:
            estimator = registry.create("estimator", chosen.name, chosen.options)
        except ConfigError:  # a plugin that is not installed here
            return False
        if not isinstance(estimator, ExactAtOrder):
            return False
        exact: object = type(estimator).exact(self.config.adaptation.K)
        return exact == estimator


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """Run folders as they are, and those in folders of runs, in order; none twice.

    Raises:
        CheckpointError: a folder is no run and holds none.
    """
    found: dict[Path, None] = {}
    for path in paths:
        inside = [path] if (path / "run.json").exists() else []
        if not inside and path.is_dir():
            inside = sorted((p.parent for p in path.glob("*/run.json")), key=natural)
        if not inside:
            raise CheckpointError(
                f"{path} is not a run of binomctl, nor a folder of runs",
                "Give folders that 'binomctl train' or 'binomctl sweep' made.",
            )
        found |= dict.fromkeys(inside)
    return list(found)


def natural(name: object) -> list[tuple[bool, int, str]]:
    """A key by which names are in order with their numbers as numbers: L2 before L10."""
    parts = re.split(r"(\d+)", str(name))
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def methods(runs: Sequence[tuple[Path, Config]]) -> list[Method]:
    """Methods in the order of their first runs, each with a label of its own."""
    out: dict[str, Method] = {}
    for path, config in runs:
        key = json.dumps(identity(config), sort_keys=True)
        while key in out and config.seed in out[key].runs:
            key += " again"  # the same run twice: two columns, and the folders tell them apart
        out.setdefault(key, Method(config)).runs[config.seed] = path
    found = list(out.values())
    for method, label in zip(found, labels([m.config for m in found]), strict=True):
        method.label = label
    named: dict[str, list[Method]] = {}
    for method in found:
        named.setdefault(method.label, []).append(method)
    for same in (group for group in named.values() if len(group) > 1):
        for method in same:
            method.label += f" [{next(iter(method.runs.values())).name}]"
    return found


def labels(configs: Sequence[Config]) -> list[str]:
    """The estimator with the options that its plugin does not have by default, and the label of
    its configuration, or what else differs."""
    flat = [identity(c) for c in configs]
    keys = sorted(
        k for k in set().union(*flat)
        if not k.startswith("estimator.") and len({str(f.get(k)) for f in flat}) > 1
    )  # fmt: skip
    usual = {k: _usual([str(f.get(k)) for f in flat]) for k in keys}
    out = []
    for config, values in zip(configs, flat, strict=True):
        varied = _varied(configs, config.estimator.name)
        label = with_options(config.estimator.name, given_options(config, varied))
        more = [
            f"{k.rpartition('.')[2]}={values.get(k)}"
            for k in keys
            if str(values.get(k)) != usual[k]
        ]
        out.append(", ".join([config.label, label] if config.label else [label, *more]))
    return out


def _usual(values: Sequence[str]) -> str | None:
    """The value that more than half have, which needs no mention; None where there is none."""
    ((value, count),) = Counter(values).most_common(1)
    return value if count > len(values) / 2 else None


def _varied(configs: Sequence[Config], name: str) -> set[str]:
    """The options in which the methods of one estimator differ."""
    same = [c.estimator.options for c in configs if c.estimator.name == name]
    return {key for one in same for key in one if len({str(o.get(key)) for o in same}) > 1}


def given_options(config: Config, varied: Container[str] = ()) -> dict[str, Any]:
    """Options of the estimator that are not its defaults, L, which every table has, and those that
    are varied."""
    chosen = config.estimator
    try:
        plain = registry.create("estimator", chosen.name, {})
    except ConfigError:
        return dict(chosen.options)
    return {
        name: value for name, value in chosen.options.items()
        if name == "L" or name in varied or value != getattr(plain, name, None)
    }  # fmt: skip


def identity(config: Config) -> dict[str, Any]:
    """Every key that is the same in all runs of one method."""
    return {
        key: value for key, value in flattened(config).items()
        if key.partition(".")[0] not in ASIDE
        and not (key.endswith(".seed") and value == config.seed)
    }  # fmt: skip


def flattened(config: Config) -> dict[str, Any]:
    """Every key with its dots."""
    return flat(config.model_dump(mode="json"))


def check_reference(runs: Sequence[Path], path: Path | None) -> None:
    """Refuse a reference that is not among the runs.

    Raises:
        ConfigError: naming them.
    """
    if path is not None and path.resolve() not in {run.resolve() for run in runs}:
        listed = ", ".join(map(str, runs))
        raise ConfigError(
            f"--reference {path} is not among the runs: {listed}", "Give one of them, or none."
        )


def reference_of(found: Sequence[Method], path: Path | None) -> Method:
    """The method to compare with: that of a given run; where that run is of another setting, the
    one with its estimator and options; else the exact meta-gradient's, else the first."""
    if path is not None:
        for method in found:
            if path.resolve() in (p.resolve() for p in method.runs.values()):
                return method
        wanted = RunDirectory.open(path).config().estimator
        for method in found:
            if method.config.estimator == wanted:
                return method
    return next((m for m in found if m.exact), found[0])


def opened(paths: Iterable[Path]) -> list[tuple[RunDirectory, Config]]:
    """Runs with their configurations."""
    directories = [RunDirectory.open(path) for path in run_folders(paths)]
    return [(run, run.config()) for run in directories]
