"""Run folders as a list: what each is, and how far it came."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import binomctl.runs.metrics as metrics
from binomctl.errors import BinomctlError
from binomctl.reporting.labels import with_options
from binomctl.runs.directory import RunDirectory
from binomctl.runs.lock import is_locked
from binomctl.runs.resuming import damage, outcome


@dataclass(frozen=True)
class RunInfo:
    """One run folder.

    state: running, done, stopped or broken; reason: why it is broken. step: the last that is
    known of, of `steps`. metric and value: the best validation. age: seconds since it was last
    written to; size: bytes.
    """

    path: str
    state: str
    reason: str
    estimator: str
    dataset: str
    step: int
    steps: int
    metric: str
    unit: str
    value: float | None
    age: float
    size: int

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def runs_in(root: Path) -> list[RunInfo]:
    """The run folders directly in a folder, by name; none where it does not exist."""
    if not root.is_dir():
        return []
    return [info(path) for path in sorted(root.iterdir()) if (path / "run.json").exists()]


def _files(path: Path) -> Iterator[os.stat_result]:
    """Of every file below a folder, but for what a training deletes meanwhile."""
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                yield os.stat(os.path.join(folder, name))


def info(path: Path) -> RunInfo:
    """What a run folder is; a damaged one is told as such, never raised."""
    files = list(_files(path))
    size = sum(one.st_size for one in files)
    age = time.time() - max((one.st_mtime for one in files), default=time.time())
    logged = metrics.read(path / "metrics.jsonl")
    step = logged[-1]["step"] if logged else 0
    common: dict[str, Any] = {"path": str(path), "age": round(age, 1), "size": size}
    nothing: dict[str, Any] = {
        "estimator": "",
        "dataset": "",
        "steps": 0,
        "metric": "",
        "unit": "",
        "value": None,
    }
    try:
        run = RunDirectory.open(path)
        config = run.config(advised=False)
        checkpoint, damaged = run.checkpoints.newest_record()
    except BinomctlError as error:
        return RunInfo(state="broken", reason=str(error), step=step, **common, **nothing)
    report = outcome(path)
    state = "done" if report else "running" if is_locked(path) else "stopped"
    best = checkpoint["numbers"]["best"] if checkpoint else {"value": None}
    told = report["best"] if report else {"metric": "", "unit": "number"}
    if report is None:
        told["metric"], told["unit"] = metrics.scored_by(logged)
    # A report that is being replaced has a lock.
    wrong = [*damaged, *filter(None, [damage(path)])] if state != "running" else damaged
    if wrong and state != "running":
        state = "broken"
    given = config.estimator.options.items()
    numbers = {name: value for name, value in given if isinstance(value, int | float)}
    return RunInfo(
        state=state,
        reason="; ".join(wrong),
        estimator=with_options(config.estimator.name, numbers),
        dataset=config.dataset.name,
        step=max(step, checkpoint["step"] if checkpoint else 0),
        steps=config.training.steps,
        metric=told["metric"],
        unit=told["unit"],
        value=best["value"],
        **common,
    )
