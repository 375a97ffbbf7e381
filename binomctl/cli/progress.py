"""How a training run looks while it goes: a tqdm bar on a terminal, log lines otherwise."""

from __future__ import annotations

from binomctl.cli.bar import Pace, bar, narrow
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
        self._pace = Pace(steps, done, EVERY)
        self._began = False
        self._recent: list[Step] = []
        self._bar, self._narrow = bar(steps, "step", done=done, leave=True), narrow()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_step(self, step: Step, seconds: float) -> None:
        if step.skipped:
            print_note(f"step {step.step} is left out: {step.skipped}")
            if self._bar is not None:
                self._bar.update()
            return
        self._recent = [*self._recent, step][-WINDOW:]
        loss = sum(s.loss for s in self._recent) / len(self._recent)
        metric = self._metric.worded(sum(s.metric for s in self._recent) / len(self._recent))
        if self._bar is not None:
            shown = metric if self._narrow else f"loss {loss:.3f}, {metric}"
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update()
        elif self._pace.due() or step.step == self._steps or not self._began:
            self._began = True
            of = f" (means of {len(self._recent)})" if len(self._recent) > 1 else ""
            print_note(
                f"step {step.step}/{self._steps}  loss {loss:.4f}  {metric}{of}"
                f"  {seconds:.0f} s, {self._pace.left(step.step) or 0:.0f} s left"
            )

    def on_validation(self, step: int, value: MeanCI, best: bool) -> None:
        shown = value.worded(self._metric.unit)
        text = f"step {step}: validation {self._metric.name} {shown}"
        print_note(text + (", best so far" if best else ""))
