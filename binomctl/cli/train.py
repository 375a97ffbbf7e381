"""`binomctl train`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from binomctl.cli.console import print_json, print_note, print_table


def train(
    estimator: Annotated[
        str | None, typer.Option(help="Meta-gradient estimator; see 'binomctl plugins'.")
    ] = None,
    L: Annotated[int | None, typer.Option("--L", help="Order or depth of the estimator.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set; see 'binomctl plugins'.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data set's files; $BINOMCTL_DATA.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Network: conv4, mlp, resnet12 or wrn28.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="Adaptation rule: gd, anil, meta-sgd, meta-curvature.")
    ] = None,
    ways: Annotated[int | None, typer.Option(help="Classes per task.")] = None,
    shots: Annotated[int | None, typer.Option(help="Support examples per class.")] = None,
    K: Annotated[int | None, typer.Option("--K", help="Inner gradient steps.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Inner step size.")] = None,
    meta_lr: Annotated[float | None, typer.Option(help="Learning rate of the outer Adam.")] = None,
    meta_batch: Annotated[int | None, typer.Option(help="Tasks per meta-step.")] = None,
    steps: Annotated[int | None, typer.Option(help="Meta-steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the weights and the task stream.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="auto, analytic (the layer algebra) or autograd.")
    ] = None,
    compile_: Annotated[
        str | None, typer.Option("--compile", help="auto, on or off: torch.compile the meta-step.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="store or recompute the linearisations of the inner loop.")
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(help="YAML file, over the defaults; repeatable, later over earlier."),
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any key, over the file; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/<data>-<estimator>-seed<N>.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, print what computes which layer, stop."),
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object on stdout.")
    ] = False,
) -> None:
    """Meta-train a model and keep the run: configuration, metrics, checkpoints, report.

    Options on the command line win over the --config file, the file over what the data set \
recommends, that over the defaults.
    """
    from binomctl.errors import ConfigError
    from binomctl.settings.layers import load_config

    overrides: dict[str, Any] = {
        "estimator.name": estimator,
        "estimator.L": L,
        "dataset.name": dataset,
        "dataset.root": str(root.expanduser().absolute()) if root else None,
        "model.name": model,
        "rule.name": rule,
        "dataset.ways": ways,
        "dataset.shots": shots,
        "adaptation.K": K,
        "adaptation.alpha": alpha,
        "training.meta_lr": meta_lr,
        "training.meta_batch": meta_batch,
        "training.steps": steps,
        "seed": seed,
        "device": device,
        "engine.kind": engine,
        "engine.compile": compile_,
        "engine.memory": memory,
    }
    settings, places = load_config(config, overrides, assign)

    from binomctl.cli.datasets import ensure_prepared
    from binomctl.cli.progress import Progress
    from binomctl.problem.batch_norm import MEANING, norm_layers
    from binomctl.problem.build import build_problem, resolved
    from binomctl.runs import RunDirectory
    from binomctl.runs.directory import default_path
    from binomctl.training.run import train as run_training
    from binomctl.training.step import captures, compiles

    try:
        ensure_prepared(settings)
        problem = build_problem(settings)
        compiled, _ = compiles(problem), captures(problem)  # refused before there is a run
    except ConfigError as error:
        raise places.locate(error) from error
    if dry_run:
        from binomctl.cli.layers import print_layers

        print_layers(problem.engine, type(problem.model).__name__, json_output)
        return
    full = resolved(problem.config)
    run = RunDirectory.create(out or default_path(full), full)
    print_note(f"run {run.path} on {problem.device}, {problem.engine.layout.d:,} parameters")
    if compiled:
        print_note(compiled)
    metric, training = problem.dataset.scored_by, settings.training
    with closing(Progress(training.steps, metric, training.log_every)) as progress:
        report = run_training(problem, run, progress)
    if json_output:
        print_json(report)
        return
    best = report["best"]
    has_norm = bool(norm_layers(problem.model))
    print_table(
        "Meta-training finished",
        [
            ("run", report["run"]),
            ("estimator", _worded(full.estimator.name, full.estimator.options)),
            ("steps", str(report["steps"])),
            ("seconds", f"{report['seconds']:.1f}"),
            ("best validation", f"{metric.worded(best['value'])} at step {best['step']}"),
            *([("batch norm", MEANING[settings.adaptation.statistics])] if has_norm else []),
            ("next", f"binomctl eval {report['run']}"),
        ],
    )


def _worded(name: str, options: dict[str, Any]) -> str:
    listed = ", ".join(f"{k} = {v}" for k, v in options.items())
    return f"{name} ({listed})" if listed else name
