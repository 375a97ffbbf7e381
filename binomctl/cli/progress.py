"""How a training run looks while it goes: a tqdm bar on a terminal, log lines otherwise."""

from __future__ import annotations

import sys

from tqdm import tqdm

from binomctl.cli.console import print_note
from binomctl.episodes import Metric
from binomctl.reporting.intervals import MeanCI
from binomctl.training.loop import Step

WINDOW = 20  # meta-steps that the shown loss and metric are averaged over


class Progress:
    """An observer of a training run for a person; writes to stderr only."""

    def __init__(self, steps: int, metric: Metric, log_every: int) -> None:
        self._steps, self._metric, self._log_every = steps, metric, log_every
        self._recent: list[Step] = []
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=steps, unit="step", dynamic_ncols=True) if on_terminal else None

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_step(self, step: Step, seconds: float) -> None:
        self._recent = [*self._recent, step][-WINDOW:]
        loss = sum(s.loss for s in self._recent) / len(self._recent)
        metric = sum(s.metric for s in self._recent) / len(self._recent)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.3f}, {self._worded(metric)}", refresh=False)
            self._bar.update()
        elif step.step % self._log_every == 0 or step.step == self._steps:
            left = seconds / step.step * (self._steps - step.step)
            print_note(
                f"step {step.step}/{self._steps}  loss {loss:.4f}  {self._worded(metric)}"
                f"  {seconds:.0f} s, {left:.0f} s left"
            )

    def on_validation(self, step: int, value: MeanCI, best: bool) -> None:
        shown = value.worded(self._metric.unit)
        text = f"step {step}: validation {self._metric.name} {shown}"
        text += ", best so far" if best else ""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print_note(text)

    def _worded(self, value: float) -> str:
        return self._metric.worded(value)
