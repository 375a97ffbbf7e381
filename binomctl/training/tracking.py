"""Trackers of a run: they are told what the run folder is told, and cannot harm the run."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from binomctl.contracts import Tracker, Tracking
from binomctl.errors import ConfigError
from binomctl.runs import Written
from binomctl.runs.written import Elsewhere, Keeps
from binomctl.settings import registry
from binomctl.settings.config import Config

NOTES = logging.getLogger("binomctl.notes")


def trackers(config: Config) -> list[tuple[str, Tracker]]:
    """Those that a configuration names.

    Raises:
        ConfigError: one is unknown, or named twice. MissingDependencyError: one's package is not
            installed.
    """
    names = [c.name for c in config.trackers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"tracker '{twice[0]}' is named twice", "Name it once.", key="trackers")
    return [(c.name, registry.create("tracker", c.name, c.options)) for c in config.trackers]


@contextmanager
def tracked(run: Written, config: Config, step: int) -> Iterator[Written]:
    """The run, with everything that is logged to it told to its trackers too.

    Args:
        step: the one that it goes on after.
    """
    chosen = trackers(config)
    if not chosen or isinstance(run, Elsewhere):
        yield run
        return
    told = _Tracked(run)
    for name, tracker in chosen:
        told.start(name, tracker, config.model_dump(mode="json"), step)
    try:
        yield told
    finally:
        told.finish()


class _Tracked:
    """A run folder and its trackers. One that raises is told nothing more, and a note says so: a
    disk or a server of somebody else's does not end a training."""

    def __init__(self, run: Written) -> None:
        self._run, self.path = run, run.path
        self._open: dict[str, Tracking] = {}
        self._outcome: dict[str, Any] | None = None

    @property
    def checkpoints(self) -> Keeps:
        return self._run.checkpoints

    def start(self, name: str, tracker: Tracker, config: dict[str, Any], step: int) -> None:
        with self._unharmed(name):
            run = self.path.absolute()
            folder = run / "trackers"
            folder.mkdir(exist_ok=True)
            self._open[name] = tracker.start(run, folder, config, step)

    def log(self, record: dict[str, Any]) -> None:
        self._run.log(record)
        numbers = {k: float(v) for k, v in record.items() if k != "step" and _finite(v)}
        for name, one in list(self._open.items()):
            with self._unharmed(name):
                one.log(record["step"], numbers)

    def report(self, report: dict[str, Any]) -> None:
        self._run.report(report)
        self._outcome = report

    def finish(self) -> None:
        for name, one in list(self._open.items()):
            with self._unharmed(name):
                one.finish(self._outcome)

    @contextmanager
    def _unharmed(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._open.pop(name, None)
            NOTES.info(
                "tracker '%s' failed and is told nothing more: %s: %s", name,
                type(error).__name__, error,
            )  # fmt: skip


def _finite(value: object) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value)  # type: ignore[arg-type]
