"""One training run's folder: what is in it and how it comes into being."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import binomctl.runs.checkpoints as checkpoints
from binomctl.errors import CheckpointError, ConfigError
from binomctl.files.atomic import disk_full, write_atomic, write_json
from binomctl.machine.environment import environment
from binomctl.runs.checkpoints import Checkpoint
from binomctl.settings.config import Config
from binomctl.settings.layers import load_config

SCHEMA = "binomctl/run/1"

Which = Literal["best", "last"]


class RunDirectory:
    """A run folder:

    run.json (what the folder is), config.yaml (fully resolved), environment.json, metrics.jsonl
    (one line per logged step), checkpoints/step-N, checkpoints/index.json (which is last, which is
    best), report.json (the outcome).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Config) -> RunDirectory:
        """Start a new run.

        Raises:
            ConfigError: the folder exists and is not empty.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"{path} exists and is not empty; a run never overwrites anything",
                "Choose another --out, or delete it yourself.",
                key="out",
            )
        try:
            with disk_full(path):
                (path / "checkpoints").mkdir(parents=True, exist_ok=True)
                write_atomic(path / "config.yaml", config.to_yaml().encode())
                write_json(path / "environment.json", environment())
                write_json(path / "run.json", {"schema": SCHEMA})
        except OSError as error:
            raise ConfigError(f"cannot write to {path}: {error.strerror}", key="out") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run.

        Raises:
            CheckpointError: there is no such folder, or binomctl did not write it.
        """
        if not path.is_dir():
            raise CheckpointError(
                f"no run at {path}", "Give the folder that 'binomctl train' printed."
            )
        try:
            schema = json.loads((path / "run.json").read_text())["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is not a run of binomctl: it has no readable run.json",
                "Give the folder that 'binomctl train' printed.",
            ) from error
        if schema != SCHEMA:
            raise CheckpointError(
                f"{path} has schema '{schema}', this version reads '{SCHEMA}'",
                "Use the version of binomctl that wrote it, or a newer one.",
            )
        return cls(path)

    def config(self) -> Config:
        """The run's resolved configuration; raises CheckpointError when it cannot be used."""
        try:
            return load_config(self.path / "config.yaml")[0]
        except ConfigError as error:
            raise CheckpointError(f"the run's configuration is unusable: {error}") from error

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl; what is not finite becomes null."""
        path = self.path / "metrics.jsonl"
        with disk_full(path), path.open("a", encoding="utf-8") as file:
            finite = {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in record.items()
            }
            file.write(json.dumps(finite, allow_nan=False) + "\n")

    def save(self, checkpoint: Checkpoint, *, best: bool, keep_all: bool = False) -> None:
        """Write a checkpoint, point the index at it, delete those no longer last or best unless
        all are to be kept."""
        folder = self._folder(checkpoint.step)
        checkpoints.save(folder, checkpoint)
        index = {**self._index(), "last": folder.name}
        if best:
            index["best"] = folder.name
        write_json(self.path / "checkpoints" / "index.json", index)
        if keep_all:
            return
        for other in (self.path / "checkpoints").glob("step-*"):
            if other.name not in index.values():
                checkpoints.remove(other)

    def load(self, which: Which) -> Checkpoint:
        """The best or the last checkpoint; raises CheckpointError when there is none or it is
        damaged."""
        name = self._index().get(which)
        if name is None:
            raise CheckpointError(
                f"{self.path} has no {which} checkpoint yet", "Let the training save one first."
            )
        return checkpoints.load(self.path / "checkpoints" / name)

    def kept(self) -> list[Checkpoint]:
        """Every checkpoint of the run that is there, by step; raises CheckpointError if none."""
        folders = sorted((self.path / "checkpoints").glob("step-*"))
        if not folders:
            raise CheckpointError(
                f"{self.path} has no checkpoint yet", "Let the training save one first."
            )
        return [checkpoints.load(folder) for folder in folders]

    def report(self, report: dict[str, Any]) -> None:
        """Write report.json, the outcome of the run."""
        write_json(self.path / "report.json", report)

    def _folder(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:08d}"

    def _index(self) -> dict[str, str]:
        path = self.path / "checkpoints" / "index.json"
        try:
            index: dict[str, str] = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged: not JSON") from error
        return index


def default_path(config: Config, root: Path = Path("runs")) -> Path:
    """The first free folder named after the run: runs/glyphs-binom-L2-seed0, then ...-2, -3."""
    parts = [config.dataset.name, config.estimator.name]
    parts += [f"{k}{v}" for k, v in config.estimator.options.items() if isinstance(v, int)]
    name = "-".join([*parts, f"seed{config.seed}"])
    path, number = root / name, 1
    while path.exists():
        number += 1
        path = root / f"{name}-{number}"
    return path
