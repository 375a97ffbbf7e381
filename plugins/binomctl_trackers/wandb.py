"""Weights and Biases, offline unless told otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from binomctl.errors import MissingDependencyError
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class WandB:
    """Metrics, configuration and outcome for Weights and Biases; `wandb sync` sends them later."""

    project: str = option("binomctl", "the project's name")
    mode: Literal["offline", "online"] = option("offline", "offline asks no network")

    def __post_init__(self) -> None:
        if find_spec("wandb") is None:
            raise MissingDependencyError(
                "tracker 'wandb' needs the package wandb", "pip install wandb"
            )

    def start(self, run: Path, folder: Path, config: Mapping[str, Any], step: int) -> _Writing:
        """The record of a run, offline in `folder`/wandb; one that goes on has the same id."""
        return _Writing(self, run, folder, config)


class _Writing:
    def __init__(self, options: WandB, run: Path, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        # run.json is written once, with the time and the configuration: no two runs have the same.
        mine = hashlib.sha256((run / "run.json").read_bytes()).hexdigest()[:16]
        self._run = wandb.init(
            project=options.project, mode=options.mode, dir=str(folder), id=mine, name=run.name,
            resume="allow" if options.mode == "online" else None, config=dict(config),
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """All of a step together."""
        self._run.log(dict(values), step=step)

    def finish(self, report: Mapping[str, Any] | None) -> None:
        """The best validation as the summary, where the run is over."""
        if report is not None:
            self._run.summary["best"] = dict(report["best"])
        self._run.finish()
