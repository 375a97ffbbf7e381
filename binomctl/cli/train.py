"""`binomctl train`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, print_table
from binomctl.cli.loading import load_torch
from binomctl.cli.trust import import_asked

if TYPE_CHECKING:
    from binomctl.machine.ranks import Ranks


def train(
    estimator: flags.ESTIMATOR = None,
    L: Annotated[int | None, typer.Option("--L", help="Order or depth of the estimator.")] = None,
    dataset: flags.DATASET = None,
    bilevel: flags.PROBLEM = None,
    root: flags.ROOT = None,
    model: flags.MODEL = None,
    init: flags.INIT = None,
    rule: flags.RULE = None,
    ways: flags.WAYS = None,
    shots: flags.SHOTS = None,
    size: flags.SIZE = None,
    K: flags.K = None,
    alpha: flags.ALPHA = None,
    meta_lr: Annotated[
        float | None, typer.Option(help="Learning rate of the outer optimiser.")
    ] = None,
    meta_batch: flags.META_BATCH = None,
    steps: Annotated[int | None, typer.Option(help="Meta-steps.")] = None,
    seed: flags.SEED = None,
    device: flags.DEVICE = None,
    engine: flags.ENGINE = None,
    compile_: flags.COMPILE = None,
    memory: flags.MEMORY = None,
    amp: Annotated[
        str | None,
        typer.Option(help="bf16: the query pass in bfloat16; refused where it is no faster here."),
    ] = None,
    config: flags.CONFIG = None,
    assign: flags.ASSIGN = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Run folder; default runs/<data>-<estimator>-seed<N>."),
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
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            help="Who else is told the numbers: tensorboard, wandb; your own: MODULE:CLASS;"
            " repeatable."
        ),
    ] = None,
    trust: flags.TRUST = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything; print shapes, what computes which layer, a forecast; stop.",
        ),
    ] = False,
    json_output: flags.JSON = False,
) -> None:
    """Meta-train a model and keep the run: configuration, metrics, checkpoints, report.

    Options on the command line win over the --config file, the file over what the data set \
recommends, that over the defaults.
    """
    load_torch()
    from binomctl.cli.follow import follow
    from binomctl.cli.resume import deadline
    from binomctl.machine.ranks import joined

    overrides = flags.given(
        "training", estimator=estimator, L=L, dataset=dataset, problem=bilevel,
        root=root, model=model, init=init,
        rule=rule, ways=ways, shots=shots, size=size, K=K, alpha=alpha, meta_lr=meta_lr,
        meta_batch=meta_batch, steps=steps, seed=seed, device=device, engine=engine,
        compile=compile_, memory=memory, amp=amp,
        on_nonfinite=on_nonfinite, task_chunk=task_chunk, keep_every=keep_every,
        trackers=tracker or None,
    )  # fmt: skip
    with joined() as ranks, ranks.alike():
        until = deadline(time_limit)
        if not ranks.first:
            follow(ranks, trust, until)
            return
        report = _trained(
            ranks, config, overrides, assign, out, resume, allow_change or [], until, trust=trust,
            dry_run=dry_run, json_output=json_output,
        )  # fmt: skip
        if report is not None:
            _print(report, json_output)


def _trained(
    ranks: Ranks,
    config: list[Path] | None,
    overrides: dict[str, Any],
    assign: list[str] | None,
    out: Path | None,
    resume: str | None,
    allowed: list[str],
    until: float | None,
    *,
    trust: bool,
    dry_run: bool,
    json_output: bool,
) -> dict[str, Any] | None:
    """The report of the run, on the rank that writes it; None after a dry run."""
    from binomctl.cli.follow import NOTHING, told
    from binomctl.cli.resume import asked, check_unchanged
    from binomctl.errors import ConfigError
    from binomctl.runs.resuming import check_scored, damage, outcome

    wrong = ""
    if allowed and resume is None:
        raise ConfigError(
            "--allow-change is about a run that goes on, and none is named", "Give it by --resume."
        )
    path, settings, places = asked(config, overrides, assign, out, resume)
    if path is not None and not allowed and (report := outcome(path)) is not None:
        check_unchanged(path, settings)
        print_note(f"{path} is finished")
        ranks.tell(NOTHING)
        check_scored(report)
        return report

    from binomctl.cli.datasets import ensure_prepared
    from binomctl.cli.progress import Progress
    from binomctl.runs import RunDirectory
    from binomctl.training.opening import checked, going_on, new
    from binomctl.training.recordable import compiles
    from binomctl.training.run import train as run_training

    try:
        if path is not None:
            import_asked(path, RunDirectory.open(path).config(), trust)
        ensure_prepared(settings)
        if dry_run:
            from binomctl.cli.layers import print_layers

            problem = checked(settings, world=ranks.world)
            print_layers(problem, json_output)
            ranks.tell(NOTHING)
            return None
        if path is not None:
            wrong = damage(path)  # before the run is opened, which removes what is to be renewed
            opened = going_on(path, settings, allowed, fallback=resume == "auto", world=ranks.world)
        else:
            opened = new(checked(settings, world=ranks.world), out)
    except ConfigError as error:
        raise places.locate(error) from error
    run, problem = opened.run, opened.problem
    for note in (*opened.notes, *([f"{wrong}; it is written again"] if wrong else [])):
        print_note(note)
    begun = f"goes on after step {opened.start.step}" if opened.start else "starts"
    where = f"{problem.device}" + (f" in {ranks.world} processes" if ranks.world > 1 else "")
    print_note(f"run {run.path} {begun} on {where}, {problem.engine.layout.d:,} parameters")
    if compiled := compiles(problem):
        print_note(compiled)
    metric, training = problem.dataset.scored_by, settings.training
    done = opened.start.step if opened.start else 0
    with run, closing(Progress(training.steps, metric, done)) as progress:
        ranks.tell(told(opened, path is not None))
        ranks.start(problem.device)
        return run_training(problem, run, progress, start=opened.start, deadline=until, ranks=ranks)


def _print(report: dict[str, Any], json_output: bool) -> None:
    if json_output:
        print_json(report)
        return
    from binomctl.metric import Metric
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
