"""The folder of a sweep: its cells, how far each came, what went wrong."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import binomctl.runs.metrics as metrics
from binomctl.errors import CheckpointError, ConfigError
from binomctl.files.atomic import write_atomic, writing
from binomctl.files.sealed import read_sealed, write_sealed
from binomctl.runs.lock import is_locked
from binomctl.runs.resuming import changes, damage, outcome
from binomctl.settings.config import Config
from binomctl.settings.layers import load_config
from binomctl.sweeps.grid import Cell

SCHEMA = "binomctl/sweep/1"
RECORD, EVENTS, CELLS, JOBS = "sweep.json", "events.jsonl", "cells", "jobs"


@dataclass(frozen=True)
class CellState:
    """waiting, queued, running, stopped, failed or done; step of steps; seconds of training so far
    and those left, None where nothing is known; the best validation; what went wrong."""

    name: str
    state: str
    step: int
    steps: int
    seconds: float
    left: float | None
    metric: str
    unit: Literal["share", "number"]
    value: float | None
    reason: str

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


class SweepFolder:
    """A sweep on the disk: sweep.json, cells/NAME.yaml, a run folder NAME for each, jobs/ with the
    logs of their processes, events.jsonl."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.names = list(names)

    @classmethod
    def create(cls, path: Path, cells: Sequence[Cell]) -> SweepFolder:
        """Make it, or go on with it: new cells are added, those that are there must be the same.

        Raises:
            ConfigError: a cell of another configuration has the folder, or it cannot be written.
        """
        before: list[str] = []
        if (path / RECORD).exists():
            before = cls.open(path).names
        elif path.exists() and any(path.iterdir()):
            raise ConfigError(f"{path} holds something else than a sweep", "Name another --out.")
        (path / CELLS).mkdir(parents=True, exist_ok=True)
        for cell in cells:
            full = _written_out(cell.config)
            file, text = path / CELLS / f"{cell.name}.yaml", full.to_yaml()
            if keys := _differing(file, full):
                raise ConfigError(
                    f"{path / cell.name} belongs to a cell of another configuration:"
                    f" {', '.join(keys)}",
                    "Name another --out, or delete that folder and its file in cells/.",
                )
            with writing(file):
                write_atomic(file, text.encode())
        names = list(dict.fromkeys([*(cell.name for cell in cells), *before]))
        write_sealed(path / RECORD, {"schema": SCHEMA, "cells": names})
        return cls(path, names)

    @classmethod
    def open(cls, path: Path) -> SweepFolder:
        """An existing one.

        Raises:
            CheckpointError: it is none, or damaged.
        """
        try:
            record = read_sealed(path / RECORD, SCHEMA, "the record of a sweep")
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} is no sweep: it has no {RECORD}",
                "Give the folder that 'binomctl sweep' printed.",
            ) from error
        return cls(path, record["cells"])

    @staticmethod
    def begun(path: Path, cells: Sequence[Cell]) -> set[str]:
        """Names of the cells that the sweep at `path`, if there is one, has already."""
        files = {cell.name: (path / CELLS / f"{cell.name}.yaml", cell) for cell in cells}
        return {
            name
            for name, (file, cell) in files.items()
            if file.exists() and not _differing(file, _written_out(cell.config))
        }

    def config(self, name: str) -> Path:
        """The configuration file of a cell."""
        return self.path / CELLS / f"{name}.yaml"

    def log(self, name: str, event: str, **more: Any) -> None:
        """One more event of a cell: submitted, failed, done."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        file = self.path / EVENTS
        with writing(file), file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"time": now, "cell": name, "event": event, **more}) + "\n")

    def finished(self, name: str) -> bool:
        """Whether its run is over, with a validation that gave a number."""
        report = outcome(self.path / name)
        return report is not None and report["best"]["value"] is not None

    def states(self) -> list[CellState]:
        """Of every cell, in order."""
        last: dict[str, dict[str, Any]] = {}
        for event in _events(self.path / EVENTS):
            last[event["cell"]] = event
        return [self._state(name, last.get(name, {})) for name in self.names]

    def _state(self, name: str, event: dict[str, Any]) -> CellState:
        run = self.path / name
        steps = load_config(self.config(name), asked=False, advised=False)[0].training.steps
        logged = metrics.read(run / "metrics.jsonl")
        step = logged[-1]["step"] if logged else 0
        seconds = float(logged[-1].get("seconds") or 0.0) if logged else 0.0
        report = outcome(run)
        left: float | None = None
        if report is not None:
            best, step, seconds = report["best"], report["steps"], report["seconds"]
            state, reason, left = "done", "", 0.0
            metric, unit, value = best["metric"], best["unit"], best["value"]
            if value is None:
                state, reason = "failed", f"no validation gave a finite {metric}"
        else:
            state, reason = _unfinished(run, bool(logged), event)
            if step:
                left = seconds / step * (steps - step)
            metric, unit = metrics.scored_by(logged)
            value = _latest(logged, f"validation_{metric}")
        return CellState(name, state, step, steps, seconds, left, metric, unit, value, reason)


def _unfinished(run: Path, begun: bool, event: dict[str, Any]) -> tuple[str, str]:
    """The state of a cell without a report, and what went wrong.

    Args:
        begun: whether its run has logged a step. event: the cell's last.
    """
    if is_locked(run):
        return "running", ""
    if damage(run):
        return "stopped", "its report.json is damaged; the same sweep writes it again"
    if event.get("event") == "failed":
        return "failed", event.get("reason", "")
    if begun:
        return "stopped", ""
    return ("queued" if event.get("event") == "submitted" else "waiting"), ""


def _written_out(config: Config) -> Config:
    """With every default: a cell that goes on is compared with its run's own. It makes the data
    set, for which alone torch is needed here: whoever looks at a sweep does not wait for it."""
    from binomctl.problem.build import resolved

    return resolved(config)


def _differing(file: Path, config: Config) -> list[str]:
    """Keys in which a cell's file, if it is there, says something else. A file of an older version
    lacks keys that have come since: they have their defaults."""
    if not file.exists() or file.read_text(encoding="utf-8") == config.to_yaml():
        return []
    return list(changes(load_config(file, asked=False)[0], config))


def remaining(states: Sequence[CellState], jobs: int) -> float | None:
    """Seconds until all cells are done, `jobs` at a time: those that have not begun take what a
    step of the others takes, the median; None before anything is known."""
    known = sorted(s.seconds / s.step for s in states if s.step and s.seconds)
    if not known:
        return None
    usual = known[len(known) // 2]
    left = [usual * s.steps if s.left is None else s.left for s in states if s.state != "done"]
    return max([sum(left) / jobs, *left], default=0.0)


def share_done(states: Sequence[CellState]) -> float:
    """Of the meta-steps of all cells, those that are made; one that stopped early is whole."""
    total = sum(s.steps for s in states)
    made = sum(s.steps if s.state == "done" else min(s.step, s.steps) for s in states)
    return made / total if total else 1.0


def _latest(logged: list[dict[str, Any]], key: str) -> float | None:
    return next((r[key] for r in reversed(logged) if r.get(key) is not None), None)


def _events(path: Path) -> list[dict[str, Any]]:
    """Whole lines; one that is being written is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    out = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("cell"), str):
            out.append(event)
    return out
