"""`binomctl error-analysis`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_left_out, print_note, print_titled, write_csv
from binomctl.cli.counting import Counting
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs, picture_path
from binomctl.cli.trust import import_asked
from binomctl.reporting.labels import named
from binomctl.words import number_of

if TYPE_CHECKING:
    from binomctl.analysis.setup import Start
    from binomctl.settings.config import Config


def error_analysis(
    dataset: flags.DATASET = None,
    bilevel: flags.PROBLEM = None,
    root: flags.ROOT = None,
    ways: flags.WAYS = None,
    shots: flags.SHOTS = None,
    size: flags.SIZE = None,
    model: flags.MODEL = None,
    rule: flags.RULE = None,
    K: flags.K = None,
    alpha: flags.ALPHA = None,
    estimators: flags.ESTIMATORS = None,
    L: flags.ORDERS = None,
    C: flags.REACH = None,
    alpha_scaling: Annotated[str | None, typer.Option(help="none, paper or both.")] = None,
    batches: Annotated[int | None, typer.Option(help="Meta-batches; default 200.")] = None,
    meta_batch: flags.META_BATCH = None,
    init: Annotated[
        str | None, typer.Option(help="model: its own weights; a number: N(0, number^2).")
    ] = None,
    at: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN", help="Measure at a run's best checkpoint."),
    ] = None,
    at_: Annotated[Path | None, typer.Option("--checkpoint", hidden=True)] = None,
    along: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Measure at every checkpoint a run kept.")
    ] = None,
    trust: flags.TRUST = False,
    imported: flags.IMPORT = None,
    spectrum: Annotated[
        bool, typer.Option("--spectrum", help="Lanczos on every H_k; draw the matching bounds.")
    ] = False,
    estimates: Annotated[
        bool, typer.Option("--estimates", help="What each says of its own error; a second picture.")
    ] = False,
    M: Annotated[int, typer.Option("--M", min=1, help="For Theorem 3.10.")] = 1,
    dtype: flags.DTYPE = None,
    seed: flags.SEED = None,
    device: flags.DEVICE = None,
    config: flags.CONFIG = None,
    assign: flags.ASSIGN = None,
    plot: flags.PLOT = False,
    output: flags.OUTPUT = None,
    csv: flags.CSV = None,
    force: flags.FORCE = False,
    json_output: flags.JSON = False,
) -> None:
    """Measure how far estimators are from the exact meta-gradient, on a model and data of yours.

    Without arguments: Figure 3b of the paper in a minute, as a table and errors.png. \
--spectrum adds the bounds of Theorems 3.6, 3.8 and 3.10 whose assumptions hold there.
    """
    from binomctl.errors import ConfigError

    checkpoint = at or at_  # --checkpoint was the name, which elsewhere is best or last
    if checkpoint and along:
        raise ConfigError(
            "--run and --along exclude each other",
            "--run measures at the best checkpoint, --along at every one: give one of them.",
        )
    if (trust or imported) and not (checkpoint or along):
        raise ConfigError(
            "--trust and --import are about a run's folder, and none is given",
            "Give it with --run or --along; a network of yours is --set model.import=...",
        )
    given = flags.given(
        "analysis", dataset=dataset, problem=bilevel, root=root, ways=ways, shots=shots, size=size,
        model=model, rule=rule, K=K, alpha=alpha,
        estimators=estimators, L=L, C=C, alpha_scaling=alpha_scaling, batches=batches, init=init,
        estimates=estimates or None, meta_batch=meta_batch, dtype=dtype, seed=seed, device=device,
    )  # fmt: skip
    others = (config, assign, checkpoint, along, csv)
    bare = not (spectrum or json_output or any(v is not None for v in (*given.values(), *others)))
    picture = picture_path(output, "errors.png", force) if plot or output or bare else None
    check_outputs(picture, csv, force=force)

    load_torch()
    from binomctl.analysis.report import csv_rows, joined
    from binomctl.analysis.setup import measurable, starts
    from binomctl.cli.datasets import ensure_prepared
    from binomctl.problem.cases import check_used
    from binomctl.runs import RunDirectory
    from binomctl.settings.measured import settings_of

    folder = checkpoint or along
    run = None if folder is None else (folder, RunDirectory.open(folder).config())
    if run is not None:
        import_asked(*run, trust, imported)
    settings, places = settings_of("analysis", config, given, assign, run)
    beside = None
    if picture is not None and settings.analysis.estimates:
        beside = picture.with_stem(f"{picture.stem}-estimates")
        check_outputs(beside, force=force)
    try:
        check_used(settings, places, "analysis")
        ensure_prepared(settings)
        begun = starts(settings, checkpoint, along)
        problem = begun[0].problem
        cases = measurable(problem)
    except ConfigError as error:
        raise places.locate(error) from error
    reports = [_measure(start, cases, spectrum, M) for start in begun]
    if csv is not None:
        write_csv(csv, csv_rows(reports))
    if picture is not None:
        from binomctl.reporting.figure_errors import draw_errors

        draw_errors(reports, picture)
        print_note(f"wrote {picture}")
    if beside is not None:
        from binomctl.reporting.figure_estimates import draw_estimates

        draw_estimates(reports[-1], beside)
        print_note(f"wrote {beside}")
    if json_output:
        print_json(joined(reports))
        return
    _print(settings, reports)


def _measure(start: Start, cases: list[Any], spectrum: bool, M: int) -> dict[str, Any]:
    from binomctl.analysis.errors import analyse, matching_bounds, unbounded
    from binomctl.analysis.report import report_of

    problem = start.problem
    batches = problem.config.analysis.batches
    at = start.step or 0
    why = unbounded(problem.inner_loop(start.m, step=at)) if spectrum else ""
    if why:
        print_note(f"no spectrum and no bounds: {why}")
    looking = spectrum and not why
    cost: list[float] = []
    steps = analyse(
        problem, start.theta, start.m, cases, batches, step=at, with_spectrum=looking,
        with_estimates=problem.config.analysis.estimates, cost=cost,
    )  # fmt: skip
    with Counting("measuring errors", batches, "batches") as counting:
        for errors, spectra in steps:  # the same growing records every time  # noqa: B007
            counting.advance()
    summary, bounds = matching_bounds(problem, spectra, M) if looking else (None, [])
    return report_of(problem, start.step, errors, summary, bounds, cost)


def _print(settings: Config, reports: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    a = settings.adaptation
    for report in reports:
        scaled = {e["alpha_scaling"] == "paper" for e in report["errors"]}
        at = "" if report["step"] is None else f", checkpoint of step {report['step']}"
        n = settings.analysis.batches
        title = (
            f"Relative error of the meta-gradient, {settings.dataset.name}, K = {a.K}, alpha"
            f" = {a.alpha:g}, {settings.dtype}{at}\nmean (95% CI half-width) over n ="
            f" {number_of(n, 'batch')} of {number_of(settings.training.meta_batch, 'task')}; alpha'"
            + (" = L alpha / K where so named, else alpha" if True in scaled else " = alpha")
        )
        table = Table(box=box.SIMPLE_HEAD)
        own = settings.analysis.estimates
        wide = console.width >= (84 if own else 76)
        table.add_column("estimator", overflow="fold")
        names = ["relative error", "cosine", "per task"] if wide else ["error", "95% CI"]
        left = () if wide else ("cosine", "errors per task")
        if own:
            names = ["relative error", "per task", "its estimate"] if wide else ["per task", "own"]
            left = () if wide else ("relative error", "half-widths")
        for name in ["L", *names]:
            table.add_column(name, justify="right", no_wrap=True)
        for e in report["errors"]:
            label = named(e) + (" alpha'" if e["alpha_scaling"] == "paper" else "")
            L = "" if e["L"] is None else str(e["L"])
            label += f" C={e['C']}" if e["C"] is not None else ""
            cells = [_worded(e["relative"]), _cosine(e["cosine"])]
            cells.append(_worded(e["per_task"]["relative"]))
            if own:
                said = "-" if e["estimated"] is None else _worded(e["estimated"] | NONE)
                cells = [cells[0], cells[2], said]
            short = [c.partition(" ")[0] for c in cells[1:]] if own else _short(e["relative"])
            table.add_row(label, L, *(cells if wide else short))
        print_titled(console, title, table)
        print_left_out(console, left)
        if report["precision"]:
            p = report["precision"]
            console.print(
                f"products in {p['products']}: the exact meta-gradient is off by"
                f" {_worded(p['error'] | NONE)} (mean, 95% CI half-width, n = {n});"
                " all errors are against the exact one in full precision"
            )
        if report["spectrum"]:
            _print_spectrum(console, report["spectrum"])


NONE = {"undefined": 0}


def _worded(v: dict[str, Any]) -> str:
    if v["mean"] is None:
        return "undefined"
    half = "" if v["ci95"] is None else f" ({v['ci95']:.1e})"
    lost = f", {v['undefined']} undefined" if v["undefined"] else ""
    return f"{v['mean']:.3e}{half}{lost}"


def _short(v: dict[str, Any]) -> list[str]:
    """Mean and half-width in cells of their own, for a narrow terminal."""
    return ["-" if v[k] is None else f"{v[k]:.1e}" for k in ("mean", "ci95")]


def _cosine(v: dict[str, Any]) -> str:
    return "undefined" if v["mean"] is None else f"{v['mean']:.6f}"


def _print_spectrum(console: Any, s: dict[str, Any]) -> None:
    console.print(
        f"alpha H = {s['alpha_H']:.4g}, alpha h = {s['alpha_h']:.3g}, lowest eigenvalue"
        f" {s['lowest']:.3g}, negative share of curvature {s['negative_share']['mean']:.2%}"
    )
    holding = ", ".join(s["theorems"]) or "none"
    console.print(f"theorems that apply: {holding}")
    for reason in s["left_out"].values():
        console.print(f"left out: {reason}")
