"""How a training run looks while it goes: a tqdm bar on a terminal, log lines otherwise."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from binomctl.cli.console import print_note
from binomctl.metric import Metric
from binomctl.reporting.intervals import MeanCI
from binomctl.training.loop import Step

EVERY = 30.0  # seconds between lines where there is no terminal
WINDOW = 20  # meta-steps that the shown loss and metric are averaged over


class Progress:
    """An observer of a training run for a person; writes to stderr only."""

    def __init__(self, steps: int, metric: Metric, done: int = 0) -> None:
        self._steps, self._metric = steps, metric
        self._done, self._began = done, time.monotonic()
        self._said = float("-inf")
        self._recent: list[Step] = []
        on_terminal = sys.stderr.isatty()
        self._bar = (
            tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True)
            if on_terminal
            else None
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_step(self, step: Step, seconds: float) -> None:
        if step.skipped:
            self._say(f"step {step.step} is left out: {step.skipped}")
            if self._bar is not None:
                self._bar.update()
            return
        self._recent = [*self._recent, step][-WINDOW:]
        loss = sum(s.loss for s in self._recent) / len(self._recent)
        metric = sum(s.metric for s in self._recent) / len(self._recent)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.3f}, {self._worded(metric)}", refresh=False)
            self._bar.update()
        elif time.monotonic() - self._said >= EVERY or step.step == self._steps:
            self._said = time.monotonic()
            each = (self._said - self._began) / (step.step - self._done)
            left = each * (self._steps - step.step)
            print_note(
                f"step {step.step}/{self._steps}  loss {loss:.4f}  {self._worded(metric)}"
                f"  {seconds:.0f} s, {left:.0f} s left"
            )

    def on_validation(self, step: int, value: MeanCI, best: bool) -> None:
        shown = value.worded(self._metric.unit)
        text = f"step {step}: validation {self._metric.name} {shown}"
        text += ", best so far" if best else ""
        self._say(text)

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print_note(text)

    def _worded(self, value: float) -> str:
        return self._metric.worded(value)
