"""`binomctl eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, print_table, write_csv
from binomctl.cli.eval_grid import Grid, dataset_choice, numbers
from binomctl.cli.outputs import check_outputs
from binomctl.cli.trust import import_asked

if TYPE_CHECKING:
    from binomctl.machine.ranks import Ranks
    from binomctl.runs import RunDirectory
    from binomctl.training.elsewhere import Tasks

LIST = "{}, or several: 1,5."


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'binomctl train'.")],
    tasks: Annotated[int | None, typer.Option(min=2, help="Number of tasks.")] = None,
    ways: Annotated[str | None, typer.Option(help=LIST.format("Classes per task"))] = None,
    shots: Annotated[str | None, typer.Option(help=LIST.format("Support examples a class"))] = None,
    queries: Annotated[str | None, typer.Option(help=LIST.format("Query examples a class"))] = None,
    steps: Annotated[str | None, typer.Option(help=LIST.format("Adaptation steps"))] = None,
    split: flags.SPLIT = "test",
    seed: Annotated[str | None, typer.Option(help=LIST.format("Seed of the tasks"))] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="best or last, or both: best,last; default: the protocol's.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Another data set than it was trained on.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data set's files, if they have moved.")
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="dataset.KEY=VALUE", help="Option of --dataset; repeatable."),
    ] = None,
    log_tasks: Annotated[
        Path | None, typer.Option(help="CSV of every task: its classes and its score.")
    ] = None,
    device: flags.DEVICE = None,
    trust: flags.TRUST = False,
    named: flags.IMPORT = None,
    force: flags.FORCE = False,
    json_output: flags.JSON = False,
) -> None:
    """Adapt a trained model to unseen tasks and report its accuracy or error with a 95% CI."""
    from binomctl.cli.console import hush
    from binomctl.machine.ranks import joined

    check_outputs(log_tasks, force=force)
    grid = Grid(
        numbers("ways", ways, 2), numbers("shots", shots, 1), numbers("queries", queries, 1),
        numbers("steps", steps, 1), numbers("seed", seed, 0),
        [None] if checkpoint is None else [word.strip() for word in checkpoint.split(",")],
    )  # fmt: skip
    for which in grid.checkpoints:
        flags.check_checkpoint(which)
    with joined() as ranks, ranks.alike():
        if not ranks.first:
            hush()
        results, rows = _evaluated(
            ranks,
            run,
            grid,
            tasks,
            split,
            dataset_choice(dataset, assign),
            root,
            device,
            trust,
            named,
            log_tasks is not None,
        )
    if log_tasks is not None and ranks.first:
        head = ["dataset", "ways", "shots", "queries", "steps", "seed", "checkpoint_step", "task",
                "score", "classes"]  # fmt: skip
        write_csv(log_tasks, [head, *rows])
    if grid.single:
        _print_one(results[0], json_output)
    elif json_output:
        print_json({"schema": "binomctl/eval-grid/1", "run": str(run), "results": results})
    else:
        _print_grid(run, results)


def _evaluated(
    ranks: Ranks,
    run: Path,
    grid: Grid,
    tasks: int | None,
    split: str,
    elsewhere: Any,
    root: Path | None,
    device: str | None,
    trust: bool,
    named: str | None,
    log: bool,
) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """A result for every cell, and a row for every task of every cell."""
    from binomctl.runs import RunDirectory
    from binomctl.training.elsewhere import Tasks

    directory = RunDirectory.open(run)
    settings = directory.config()
    import_asked(run, settings, trust, named)
    if device is not None:
        settings = settings.model_copy(update={"device": device})
    results, rows = [], []
    for which, ways, shots, queries, steps, seed in grid.cells():
        asked = Tasks(ways, shots, queries, elsewhere, root)
        result, own = _cell(ranks, directory, settings, which, asked, tasks, split, steps, seed,
                            log)  # fmt: skip
        results.append(result)
        place = [result[k] for k in ("dataset", "ways", "shots", "queries", "adaptation_steps",
                                     "seed", "checkpoint_step")]  # fmt: skip
        rows += [[*place, i, score, classes] for i, (score, classes) in enumerate(own)]
    return results, rows


def _cell(
    ranks: Ranks,
    directory: RunDirectory,
    settings: Any,
    which: str | None,
    tasks: Tasks,
    count: int | None,
    split: str,
    steps: int | None,
    seed: int | None,
    log: bool,
) -> tuple[dict[str, Any], list[tuple[float, str]]]:
    from dataclasses import replace

    from binomctl.cli.datasets import ensure_prepared
    from binomctl.contracts import NamesClasses
    from binomctl.problem.build import build_problem
    from binomctl.problem.datasets import evaluation_dataset
    from binomctl.training.elsewhere import check_shape, config_for
    from binomctl.training.score import asked_of, chosen, score, scores
    from binomctl.training.state import constants

    trained, named, note = chosen(directory, settings, which)
    if note:
        print_note(note)
    task = directory.facts.get("task") or {}
    in_shape = tuple(task.get("in_shape", ()))
    config = config_for(settings, tasks, in_shape)
    ensure_prepared(config)
    if in_shape:
        check_shape(config, in_shape)
    print_note(f"evaluating step {trained.step} of {directory.path}"
               + (f" on {tasks.setting}" if tasks.setting else ""))  # fmt: skip
    problem = build_problem(config, constants(trained))
    ranks.start(problem.device)
    asked = replace(asked_of(config, split, count, steps, seed), setting=tasks.setting)
    outputs = task.get("out_dim")
    own = scores(problem, directory.path, trained, asked, ranks, outputs)
    result = score(problem, directory.path, trained, asked, own) | {"checkpoint": named}
    data: Any = evaluation_dataset(config, problem.dataset, asked.seed)
    names = log and isinstance(data, NamesClasses)  # it draws every task once more
    classes = [" | ".join(data.class_names(split, i)) if names else "" for i in range(len(own))]
    return result, list(zip(own, classes, strict=True))


def _print_one(result: dict[str, Any], json_output: bool) -> None:
    from binomctl.problem.batch_norm import MEANING

    if json_output:
        print_json(result)
        return
    task = [f"{result[k]} {k}" for k in ("ways", "shots", "queries") if result[k] is not None]
    meaning = MEANING.get(result["statistics"])
    print_table(
        f"Evaluation on the {result['split']} split",
        [
            ("run", f"{result['run']}, step {result['checkpoint_step']} ({result['checkpoint']})"),
            (result["metric"], _worded(result)),
            ("each task", ", ".join(task)),
            ("adaptation steps", str(result["adaptation_steps"])),
            *([("batch norm", meaning)] if meaning else []),
        ],
    )


def _print_grid(run: Path, results: list[dict[str, Any]]) -> None:
    """A row a cell; what is the same in all of them is in the title."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = {"checkpoint": "checkpoint", "ways": "ways", "shots": "shots", "queries": "queries",
             "adaptation_steps": "steps", "seed": "seed"}  # fmt: skip
    varied = [k for k in names if len({str(r[k]) for r in results}) > 1]
    same = ", ".join(f"{names[k]} {results[0][k]}" for k in names
                     if k not in varied and results[0][k] is not None)  # fmt: skip
    title = f"{run} on the {results[0]['split']} split of {results[0]['dataset']}; {same}"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for key in varied:
        table.add_column(names[key], justify="right")
    table.add_column(results[0]["metric"])
    for result in results:
        table.add_row(*(str(result[k]) for k in varied), _worded(result))
    Console(highlight=False).print(table)


def _worded(result: dict[str, Any]) -> str:
    from binomctl.reporting.intervals import MeanCI

    return MeanCI(result["mean"], result["ci95"], result["n"]).worded(result["unit"])
