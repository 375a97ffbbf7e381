"""What all runs of a comparison are asked: the same test tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from binomctl.runs.evaluations import Asked
from binomctl.settings.config import Config
from binomctl.training.score import asked_of


@dataclass(frozen=True)
class SharedTasks:
    """The episodes 0 .. tasks - 1 of a split under a seed.

    steps: the adaptation steps of all runs; None where each run has those of its own protocol:
    methods differ in how they adapt, and what they meet is the same.
    """

    split: str
    tasks: int
    steps: int | None
    seed: int

    def of(self, config: Config) -> Asked:
        """What one run is asked."""
        return asked_of(config, self.split, self.tasks, self.steps, self.seed)


def shared_tasks(
    configs: Iterable[Config], split: str, tasks: int | None, steps: int | None, seed: int
) -> tuple[SharedTasks, list[str]]:
    """The tasks that all runs meet, by default the fewest that any protocol has, and what to tell
    of it."""
    listed = list(configs)
    counts = {c.evaluation.tasks for c in listed}
    shared = SharedTasks(split, tasks or min(counts), steps, seed)
    notes = []
    depths = sorted({shared.of(c).steps for c in listed})
    if len(depths) > 1:
        notes.append(
            f"protocols adapt for {depths} steps: every run takes its own;"
            " --adaptation-steps N is for all"
        )
    if tasks is None and len(counts) > 1:
        notes.append(f"protocols test on {sorted(counts)} tasks: {min(counts)} are taken for all")
    return shared, notes
