"""Who is told how a run is going."""

from __future__ import annotations

from typing import Protocol

from binomctl.reporting.intervals import MeanCI
from binomctl.training.loop import Step


class Observer(Protocol):
    """Whoever wants to be told; the CLI's progress bar is one."""

    def on_step(self, step: Step, seconds: float) -> None: ...
    def on_validation(self, step: int, value: MeanCI, best: bool) -> None: ...


class Silent:
    """An observer that shows nothing; metrics.jsonl has it all."""

    def on_step(self, step: Step, seconds: float) -> None: ...
    def on_validation(self, step: int, value: MeanCI, best: bool) -> None: ...
