"""`binomctl eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_table, print_titled, write_csv
from binomctl.cli.eval_grid import (
    CHECKPOINTS,
    INFERENCES,
    Grid,
    dataset_choice,
    numbers,
    words,
)
from binomctl.cli.evaluating import COLUMNS, Evaluation
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs
from binomctl.cli.trust import import_asked
from binomctl.words import number_of

if TYPE_CHECKING:
    from binomctl.settings.layers import Places

INDUCTIVE = "inductive: each query beside the support set alone"
LIST = "{}, or several: 5,10."


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'binomctl train'.")],
    tasks: Annotated[int | None, typer.Option(min=2, help="Number of tasks.")] = None,
    ways: Annotated[str | None, typer.Option(help=LIST.format("Classes per task"))] = None,
    shots: Annotated[str | None, typer.Option(help=LIST.format("Support examples a class"))] = None,
    queries: Annotated[str | None, typer.Option(help=LIST.format("Query examples a class"))] = None,
    adaptation_steps: Annotated[
        str | None, typer.Option(*flags.ADAPTATION_STEPS, help=LIST.format("Adaptation steps"))
    ] = None,
    split: flags.SPLIT = "test",
    seed: Annotated[str | None, typer.Option(help=LIST.format("Seed of the tasks"))] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="best, last, or ensemble: the mean of the probabilities of all that were"
            " kept; or several. Default: the protocol's."
        ),
    ] = None,
    inference: Annotated[
        str | None,
        typer.Option(
            help="transductive: all queries of a task together, the default; inductive:"
            " each beside the support set alone; or both."
        ),
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
    reliability: Annotated[
        Path | None,
        typer.Option(help="Picture of how often answers of a confidence are right."),
    ] = None,
    device: flags.DEVICE = None,
    trust: flags.TRUST = False,
    named: flags.IMPORT = None,
    force: flags.FORCE = False,
    json_output: flags.JSON = False,
) -> None:
    """Adapt a trained model to unseen tasks and report its accuracy or error with a 95% CI."""
    load_torch()
    from binomctl.cli.console import hush
    from binomctl.errors import ConfigError
    from binomctl.machine.ranks import joined
    from binomctl.reporting.figures import check_suffix
    from binomctl.runs import RunDirectory

    check_outputs(log_tasks, check_suffix(reliability) if reliability else None, force=force)
    grid = Grid(
        numbers("ways", ways, 2), numbers("shots", shots, 1), numbers("queries", queries, 1),
        numbers("adaptation-steps", adaptation_steps, 1), numbers("seed", seed, 0),
        words("checkpoint", checkpoint, CHECKPOINTS), words("inference", inference, INFERENCES),
    )  # fmt: skip
    if reliability is not None and not grid.single:
        raise ConfigError("--reliability draws one evaluation", "Ask for one combination.")
    elsewhere = dataset_choice(dataset, assign)
    with joined() as ranks, ranks.alike(), _places(dataset, assign).naming():
        if not ranks.first:
            hush()
        directory = RunDirectory.open(run)
        settings = directory.config()
        import_asked(run, settings, trust, named)
        if reliability is not None:
            _check_sure(elsewhere or settings.dataset, ranks.world)
        if device is not None:
            settings = settings.model_copy(update={"device": device})
        evaluation = Evaluation(
            ranks, directory, settings, tasks, split, elsewhere, root, log_tasks is not None
        )
        cells = list(evaluation.cells(grid))
    results = [result for result, _ in cells]
    if log_tasks is not None and ranks.first:
        head = [*COLUMNS, "task", "score", "classes"]
        write_csv(log_tasks, [head, *(row for _, rows in cells for row in rows)])
    if reliability is not None and ranks.first:
        _draw(results[0], reliability)
    if grid.single:
        _print_one(results[0], json_output)
    elif json_output:
        print_json({"schema": "binomctl/eval-grid/1", "run": str(run), "results": results})
    else:
        _print_grid(run, results)


def _places(dataset: str | None, assign: list[str] | None) -> Places:
    """What the keys of an evaluation were typed as."""
    from binomctl.settings.layers import Places

    named = {"dataset.name": "--dataset"} if dataset is not None else {}
    typed = {"dataset.root": "--root", "dataset.ways": "--ways", "dataset.shots": "--shots",
             "dataset.queries": "--queries", "device": "--device"}  # fmt: skip
    return Places(named | typed | {one.partition("=")[0]: f"--set {one}" for one in assign or []})


def _print_one(result: dict[str, Any], json_output: bool) -> None:
    from binomctl.problem.batch_norm import MEANING

    if json_output:
        print_json(result)
        return
    sizes = {"ways": "way", "shots": "shot", "queries": "query"}
    task = [number_of(result[k], one) for k, one in sizes.items() if result[k] is not None]
    meaning = MEANING.get(result["statistics"])
    print_table(
        f"Evaluation on the {result['split']} split",
        [
            ("run", f"{result['run']}, {_which(result)}"),
            (result["metric"], _worded(result)),
            *_sureness(result),
            *([("each task", ", ".join(task))] if task else []),
            ("adaptation steps", str(result["adaptation_steps"])),
            *([("inference", INDUCTIVE)] if result["inference"] == "inductive" else []),
            *([("batch norm", meaning)] if meaning else []),
        ],
    )


def _print_grid(run: Path, results: list[dict[str, Any]]) -> None:
    """A row a cell; what is the same in all of them is in the title."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    names = {"checkpoint": "checkpoint", "ways": "ways", "shots": "shots", "queries": "queries",
             "adaptation_steps": "steps", "inference": "inference", "seed": "seed"}  # fmt: skip
    varied = [k for k in names if len({str(r[k]) for r in results}) > 1]
    same = ", ".join(f"{names[k]} {results[0][k]}" for k in names
                     if k not in varied and results[0][k] is not None)  # fmt: skip
    title = f"{run} on the {results[0]['split']} split of {results[0]['dataset']}; {same}"
    table = Table(box=box.SIMPLE_HEAD)
    for key in varied:
        table.add_column(names[key], justify="right")
    table.add_column(results[0]["metric"])
    for result in results:
        table.add_row(*(str(result[k]) for k in varied), _worded(result))
    print_titled(Console(highlight=False), title, table)


def _sureness(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Negative log-likelihood and calibration error, of a classifier."""
    from binomctl.reporting.intervals import MeanCI

    if result["nll"] is None:
        return []
    nll = MeanCI(result["nll"]["mean"], result["nll"]["ci95"], result["n"])
    found = result["calibration"]
    error = f"{found['error']:.1%}, {len(found['bins'])} bins"
    of = number_of(found["queries"], "query")
    return [("NLL", nll.plain()), ("calibration error", f"{error}, {of}")]


def _check_sure(dataset: Any, processes: int) -> None:
    """Refuse --reliability before anything is computed, where it can be known."""
    from binomctl.settings import registry

    kind = getattr(registry.load("dataset", dataset.name), "kind", "classification")
    if processes > 1 or kind != "classification":
        raise _no_calibration(dataset.name)


def _no_calibration(name: str) -> Exception:
    from binomctl.errors import ConfigError

    return ConfigError(
        f"--reliability draws how sure a classifier is: a run on {name} has no such numbers, and"
        " several processes keep none",
        "Leave it out, or evaluate a run of a classification in one process.",
    )


def _draw(one: dict[str, Any], path: Path) -> None:
    from binomctl.reporting.figure_reliability import draw_reliability

    if one["calibration"] is None:
        raise _no_calibration(one["dataset"])
    title = f"{one['dataset']} {one['ways']}-way {one['shots']}-shot, {_which(one)}"
    draw_reliability(one["calibration"], title, path)


def _which(result: dict[str, Any]) -> str:
    if result["members"] > 1:
        return f"ensemble of {result['members']} checkpoints up to step {result['checkpoint_step']}"
    return f"step {result['checkpoint_step']} ({result['checkpoint']})"


def _worded(result: dict[str, Any]) -> str:
    from binomctl.reporting.intervals import MeanCI

    return MeanCI(result["mean"], result["ci95"], result["n"]).worded(result["unit"])
