"""Where else a training run's numbers go, beside its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Tracking(Protocol):
    """A run that is being tracked."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """What a line of metrics.jsonl has, its numbers alone."""
        ...

    def finish(self, report: Mapping[str, Any] | None) -> None:
        """The end: the report of a run that is over, None where it stopped or broke off."""
        ...


class Tracker(Protocol):
    """A tracker; a frozen dataclass whose fields are its options.

    Constructing one refuses what is missing (MissingDependencyError), before anything begins.
    """

    def start(self, run: Path, folder: Path, config: Mapping[str, Any], step: int) -> Tracking:
        """Track a run, which goes on after `step`; 0 is its start.

        Args:
            run: its folder.
            folder: in it, for what trackers keep.
        """
        ...
