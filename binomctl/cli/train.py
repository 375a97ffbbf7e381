"""`binomctl train`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from binomctl.cli.console import print_json, print_note, print_table
from binomctl.cli.trust import import_asked


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
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="auto|RUN",
            help="Go on with a run: this one, or with auto the unfinished one of this name or at"
            " --out, a new one where there is none.",
        ),
    ] = None,
    allow_change: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="With --resume: a key that may differ; repeatable."),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(help="Save and stop before so much time has passed: 90m, 12:00:00."),
    ] = None,
    on_nonfinite: Annotated[
        str | None, typer.Option(help="raise or skip steps whose numbers are not finite.")
    ] = None,
    task_chunk: Annotated[
        int | None, typer.Option(help="Tasks in memory together; less memory, same numbers.")
    ] = None,
    keep_every: Annotated[
        int | None, typer.Option(help="Keep checkpoints of multiples of this step besides.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="With --resume: import the network the run names.")
    ] = False,
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
    from binomctl.cli.resume import asked, deadline
    from binomctl.errors import ConfigError
    from binomctl.runs.resuming import outcome

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
        "training.on_nonfinite": on_nonfinite,
        "training.task_chunk": task_chunk,
        "training.keep_every": keep_every,
    }
    until = deadline(time_limit)
    path, settings, places = asked(config, overrides, assign, out, resume)
    if path is not None and not allow_change and (report := outcome(path)) is not None:
        print_note(f"{path} is finished")
        _print(report, json_output)
        return

    from binomctl.cli.datasets import ensure_prepared
    from binomctl.cli.progress import Progress
    from binomctl.training.opening import checked, going_on, new
    from binomctl.training.run import train as run_training
    from binomctl.training.step import compiles

    try:
        if path is not None:
            import_asked(path, settings, trust)
        ensure_prepared(settings)
        if dry_run:
            from binomctl.cli.layers import print_layers

            problem = checked(settings)
            print_layers(problem.engine, type(problem.model).__name__, json_output)
            return
        if path is not None:
            opened = going_on(path, settings, allow_change or [], fallback=resume == "auto")
        else:
            opened = new(checked(settings), out)
    except ConfigError as error:
        raise places.locate(error) from error
    run, problem = opened.run, opened.problem
    for note in opened.notes:
        print_note(note)
    begun = f"goes on after step {opened.start.step}" if opened.start else "starts"
    print_note(
        f"run {run.path} {begun} on {problem.device}, {problem.engine.layout.d:,} parameters"
    )
    if compiled := compiles(problem):
        print_note(compiled)
    metric, training = problem.dataset.scored_by, settings.training
    done = opened.start.step if opened.start else 0
    with run, closing(Progress(training.steps, metric, done)) as progress:
        report = run_training(problem, run, progress, start=opened.start, deadline=until)
    _print(report, json_output)


def _print(report: dict[str, Any], json_output: bool) -> None:
    if json_output:
        print_json(report)
        return
    from binomctl.episodes import Metric
    from binomctl.problem.batch_norm import MEANING
    from binomctl.reporting.labels import with_options

    best, estimator = report["best"], dict(report["estimator"])
    shown = Metric(best["metric"], best["unit"], True).worded(best["value"])
    norm = MEANING.get(report["statistics"])
    skipped, early = report["skipped"], report["stopped_early"]
    print_table(
        "Meta-training finished",
        [
            ("run", report["run"]),
            ("estimator", with_options(estimator.pop("name"), estimator)),
            ("steps", f"{report['steps']}{' (no better validation since)' if early else ''}"),
            *([("skipped", f"{skipped} steps, not finite")] if skipped else []),
            ("seconds", f"{report['seconds']:.1f}"),
            ("best validation", f"{shown} at step {best['step']}"),
            *([("batch norm", norm)] if norm else []),
            ("next", f"binomctl eval {report['run']}"),
        ],
    )
