"""The cells of `binomctl eval`: a result for each combination that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binomctl.cli.console import print_note
from binomctl.cli.counting import Counting
from binomctl.cli.eval_grid import ENSEMBLE, Grid

if TYPE_CHECKING:
    from binomctl.machine.ranks import Ranks
    from binomctl.problem.record import Problem
    from binomctl.runs import Checkpoint, RunDirectory

COLUMNS = ("dataset", "ways", "shots", "queries", "adaptation_steps", "inference", "seed",
           "checkpoint", "checkpoint_step")  # fmt: skip
"""Of a result, what tells the cell of a task that is logged."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run's checkpoints on tasks.

    settings: the run's configuration; tasks: how many; elsewhere: another data set; root: of its
    files; log: whether the classes of every task are wanted.
    """

    ranks: Ranks
    run: RunDirectory
    settings: Any
    tasks: int | None
    split: str
    elsewhere: Any
    root: Path | None
    log: bool

    def cells(self, grid: Grid) -> Iterator[tuple[dict[str, Any], list[list[Any]]]]:
        """A result for every combination, and a row for every one of its tasks."""
        from binomctl.training.elsewhere import Tasks
        from binomctl.training.score import asked_of, score, scores

        outputs = (self.run.facts.get("task") or {}).get("out_dim")
        for which, ways, shots, queries in grid.problems():
            members, named = self._members(which)
            asked_for = Tasks(ways, shots, queries, self.elsewhere, self.root)
            problem = self._problem(members, asked_for)
            _check_seeds(grid, problem)
            for steps, seed, inference in grid.protocols():
                asked = replace(
                    asked_of(problem.config, self.split, self.tasks, steps, seed),
                    setting=asked_for.setting,
                    inductive=inference == "inductive",
                )
                told = grid.told(steps, seed, inference)
                what = f"evaluating ({told})" if told else "evaluating"
                with Counting(what, asked.tasks, "tasks") as counting:
                    own = scores(
                        problem, self.run.path, members, asked, self.ranks, outputs,
                        counting.advance,
                    )  # fmt: skip
                result = score(problem, self.run.path, members, asked, own)
                result["checkpoint"] = named
                place = [result[column] for column in COLUMNS]
                names = self._class_names(problem, asked.seed, len(own.scores))
                pairs = enumerate(zip(own.scores, names, strict=True))
                yield result, [[*place, i, value, classes] for i, (value, classes) in pairs]

    def _members(self, which: str | None) -> tuple[list[Checkpoint], str]:
        """The checkpoint that was asked for, or all that were kept; and what it is called."""
        from binomctl.training.score import chosen

        if which == ENSEMBLE:
            return self.run.checkpoints.kept(), ENSEMBLE
        trained, named, note = chosen(self.run, self.settings, which)
        if note:
            print_note(note)
        return [trained], named

    def _problem(self, members: list[Checkpoint], tasks: Any) -> Problem:
        from binomctl.cli.datasets import ensure_prepared
        from binomctl.problem.build import build_problem
        from binomctl.training.elsewhere import check_shape, config_for
        from binomctl.training.state import constants

        in_shape = tuple((self.run.facts.get("task") or {}).get("in_shape", ()))
        config = config_for(self.settings, tasks, in_shape)
        ensure_prepared(config)
        if in_shape:
            check_shape(config, in_shape)
        steps = ", ".join(str(one.step) for one in members)
        print_note(f"evaluating step{'s' * (len(members) > 1)} {steps} of {self.run.path}"
                   + (f" on {tasks.setting}" if tasks.setting else ""))  # fmt: skip
        problem = build_problem(config, constants(members[0]))
        self.ranks.start(problem.device)
        return problem

    def _class_names(self, problem: Problem, seed: int, n: int) -> list[str]:
        """The classes of every task, "" where nobody asked or they have no names."""
        from binomctl.contracts import NamesClasses
        from binomctl.problem.datasets import evaluation_dataset

        data: Any = evaluation_dataset(problem.config, problem.dataset, seed)
        if not (self.log and isinstance(data, NamesClasses)):  # it draws every task once more
            return [""] * n
        return [" | ".join(data.class_names(self.split, i)) for i in range(n)]


def _check_seeds(grid: Grid, problem: Problem) -> None:
    """Refuse --seed for a data set that draws nothing."""
    from binomctl.errors import ConfigError
    from binomctl.options import has_option

    if grid.seeds != [None] and not has_option(type(problem.dataset), "seed"):
        raise ConfigError(
            f"--seed: data set '{problem.config.dataset.name}' has no seed: its tasks are the same"
            " every time",
            "Leave it out.",
        )
