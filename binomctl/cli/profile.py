"""`binomctl profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, write_csv
from binomctl.cli.counting import Counting
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs, picture_path
from binomctl.reporting.labels import options_text

if TYPE_CHECKING:
    from binomctl.problem.cases import Case
    from binomctl.problem.record import Problem


def profile(
    estimators: flags.ESTIMATORS = None,
    L: flags.ORDERS = None,
    C: flags.REACH = None,
    K: flags.K = None,
    dataset: flags.DATASET = None,
    bilevel: flags.PROBLEM = None,
    root: flags.ROOT = None,
    model: flags.MODEL = None,
    rule: flags.RULE = None,
    ways: flags.WAYS = None,
    shots: flags.SHOTS = None,
    size: flags.SIZE = None,
    meta_batch: flags.META_BATCH = None,
    engine: flags.ENGINE = None,
    memory: flags.MEMORY = None,
    compile_: flags.COMPILE = None,
    seconds: Annotated[
        float | None, typer.Option(help="Of measuring, for every cell; default 5 on a GPU, else 2.")
    ] = None,
    device: flags.DEVICE = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Predict what fits a budget, then measure the best.")
    ] = False,
    memory_budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="For --plan: 8GiB, 500MB.")
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="For --plan: 50ms, 2s.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One step of the first cell as a Chrome trace."),
    ] = None,
    config: flags.CONFIG = None,
    assign: flags.ASSIGN = None,
    plot: flags.PLOT = False,
    output: flags.OUTPUT = None,
    csv: flags.CSV = None,
    force: flags.FORCE = False,
    json_output: flags.JSON = False,
) -> None:
    """Measure time, peak memory and utilisation of every estimator on this machine.

    Without arguments: Figure 4 of the paper as a table and profile.png, in under 3 minutes; on a \
GPU its workload (random images 84x84x3), on a CPU glyphs. Nothing is left out of a step. --plan \
tells which estimator, L and schedule fit a budget.
    """
    from binomctl.errors import ConfigError

    given = flags.given(
        "profile", estimators=estimators, L=L, C=C, seconds=seconds, K=K, dataset=dataset,
        problem=bilevel,
        root=root, ways=ways, shots=shots, size=size, model=model, rule=rule, meta_batch=meta_batch,
        engine=engine, memory=memory, compile=compile_, device=device,
    )  # fmt: skip
    others = (config, assign, csv, trace)
    bare = not (json_output or plan or any(v is not None for v in (*given.values(), *others)))
    picture = picture_path(output, "profile.png", force) if plot or output or bare else None
    if (memory_budget or time_budget) and not plan:
        raise ConfigError("--memory-budget and --time-budget are for --plan", "Add --plan.")
    if trace is not None and (plan or picture or csv or json_output):
        raise ConfigError("--trace writes one step's trace alone", "Leave the other outputs out.")
    if plan and (picture or csv):
        raise ConfigError("--plan draws no picture and writes no CSV", "Use --json.")
    check_outputs(picture, csv, trace, force=force)

    load_torch()
    from binomctl.cli.datasets import ensure_prepared
    from binomctl.problem.build import build_problem
    from binomctl.problem.cases import cases_of, check_used
    from binomctl.settings.measured import settings_of

    settings, places = settings_of("profile", config, given, assign)
    try:
        check_used(settings, places, "profile")
        ensure_prepared(settings)
        problem = build_problem(settings)
        cells = cases_of(problem, "profile")
    except ConfigError as error:
        raise places.locate(error) from error
    if trace is not None:
        _trace(problem, cells[0], trace)
        return
    if plan:
        from binomctl.cli.plan import run_plan

        run_plan(problem, settings, memory_budget, time_budget, json_output, config or ())
        return
    report, stopped = _measure(problem, cells)
    if json_output:
        print_json(report)
    else:
        from binomctl.cli.profile_table import print_profile

        print_profile(report)
    if csv is not None:
        write_csv(csv, _csv_rows(report))
    if picture is not None:
        from binomctl.reporting.figure_profile import draw_profile

        draw_profile(report, picture)
        print_note(f"wrote {picture}")
    if stopped:
        from binomctl.errors import Interrupted

        raise Interrupted("stopped; what was measured until then is above", stopped)


def _measure(problem: Problem, cells: list[Case]) -> tuple[dict[str, Any], int | None]:
    """The report, and the signal that cut it short, if one did."""
    from binomctl.machine.signals import StopRequest
    from binomctl.profiling.measure import measure, pieces, prepare
    from binomctl.profiling.others import OtherLoad
    from binomctl.profiling.session import rates_and_work, report_of

    prepared = prepare(problem, cells)
    counting, others = Counting("profiling", pieces(prepared), "pieces"), OtherLoad()
    with StopRequest() as stop, counting, others:
        counting.doing("the machine's own rates")
        rates, work = rates_and_work(problem)
        seconds = problem.config.profile.seconds
        for _ in measure(prepared, seconds, counting.doing, lambda: stop.signal_number is not None):
            counting.advance()
            if stop.signal_number is not None:
                break
    report = report_of(problem, prepared, rates, work, others.share)
    if report["busy"]:
        print_note(f"the machine was busy: {'; '.join(report['busy']['reasons'])}; measure again")
    return report, stop.signal_number


def _trace(problem: Problem, cell: Case, path: Path) -> None:
    from binomctl.errors import cannot_write
    from binomctl.profiling.session import trace

    try:
        path.open("a").close()
    except OSError as error:
        raise cannot_write(path, error.strerror) from error
    trace(problem, cell, path)
    print_note(f"wrote {path}: one meta-step of {cell.label}, for chrome://tracing or Perfetto")


def _csv_rows(report: dict[str, Any]) -> Any:
    plain = (
        "estimator",
        "L",
        "C",
        "options",
        "engine",
        "failed",
        "peak_memory_bytes",
        "hvps",
        "depth",
    )
    phases = sorted({p for c in report["cells"] for p in c["phases_ms"] or {}})
    figures = ("median", "p10", "p90", "n")
    yield [*plain, "flops", *(f"step_ms_{f}" for f in figures),
           *(f"{p}_ms_median" for p in phases), "utilization", "share_of_matrix_product",
           "share_of_convolution"]  # fmt: skip
    for cell in report["cells"]:
        step, parts = cell["step_ms"] or {}, cell["phases_ms"] or {}
        share = cell["share_of_peak"] or {}
        cell = cell | {"options": options_text(cell)}
        yield [*(cell[name] for name in plain), cell["flops"], *(step.get(f) for f in figures),
               *(parts.get(p, {}).get("median") for p in phases),
               (cell["utilization"] or {}).get("value"), share.get("matrix_product"),
               share.get("convolution")]  # fmt: skip
