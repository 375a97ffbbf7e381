"""What a training writes to: a run folder, or nothing where another process writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from binomctl.runs.checkpoints import Checkpoint


class Keeps(Protocol):
    """A place for checkpoints; see Saved.save."""

    def save(
        self, checkpoint: Checkpoint, *, best: bool, last: int = 1, every: int = 0
    ) -> None: ...


class Written(Protocol):
    """A place for what a training finds; see RunDirectory."""

    path: Path

    @property
    def checkpoints(self) -> Keeps: ...
    def log(self, record: dict[str, Any]) -> None: ...
    def report(self, report: dict[str, Any]) -> None: ...


class Elsewhere:
    """A run folder that another process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Elsewhere:
        return self

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def save(self, checkpoint: Checkpoint, *, best: bool, last: int = 1, every: int = 0) -> None:
        pass

    def log(self, record: dict[str, Any]) -> None:
        pass

    def report(self, report: dict[str, Any]) -> None:
        pass
