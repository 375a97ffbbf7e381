"""`binomctl eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, print_table
from binomctl.cli.trust import import_asked


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'binomctl train'.")],
    tasks: Annotated[int | None, typer.Option(min=2, help="Number of tasks.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Adaptation steps.")] = None,
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "test",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the tasks.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="best or last; default: what the run's protocol says.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data set's files, if they have moved.")
    ] = None,
    device: flags.DEVICE = None,
    trust: flags.TRUST = False,
    named: flags.IMPORT = None,
    json_output: flags.JSON = False,
) -> None:
    """Adapt a trained model to unseen tasks and report its accuracy or error with a 95% CI."""
    from binomctl.errors import ConfigError, unknown
    from binomctl.runs import RunDirectory

    if checkpoint not in (None, "best", "last"):
        raise ConfigError(unknown("checkpoint", checkpoint, ["best", "last"]))
    directory = RunDirectory.open(run)
    settings = directory.config()
    which = checkpoint or settings.evaluation.checkpoint
    if checkpoint is None and which == "best" and not directory.checkpoints.has_best():
        print_note(f"{run} was stopped before its first validation: its last checkpoint is taken")
        which = "last"
    import_asked(run, settings, trust, named)
    if device is not None:
        settings = settings.model_copy(update={"device": device})

    from binomctl.cli.datasets import ensure_prepared, moved
    from binomctl.problem.batch_norm import MEANING
    from binomctl.problem.build import build_problem
    from binomctl.reporting.intervals import MeanCI
    from binomctl.training.score import score
    from binomctl.training.state import constants

    trained = directory.checkpoints.load("last" if which == "last" else "best")
    print_note(f"evaluating step {trained.step} of {run}")
    if root is not None:
        settings = moved(settings, root)
    ensure_prepared(settings)
    problem = build_problem(settings, constants(trained))
    result = score(
        problem,
        run,
        trained,
        split,
        tasks or settings.evaluation.tasks,
        steps or settings.evaluation.steps or settings.adaptation.K,
        settings.seed if seed is None else seed,
    )
    if json_output:
        print_json(result)
        return
    value = MeanCI(result["mean"], result["ci95"], result["n"])
    task = [f"{result[k]} {k}" for k in ("ways", "shots", "queries") if result[k] is not None]
    meaning = MEANING.get(result["statistics"])
    print_table(
        f"Evaluation on the {split} split",
        [
            ("run", f"{run}, step {trained.step} ({which})"),
            (result["metric"], value.worded(result["unit"])),
            ("each task", ", ".join(task)),
            ("adaptation steps", str(result["adaptation_steps"])),
            *([("batch norm", meaning)] if meaning else []),
        ],
    )
