"""`binomctl plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_note
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs, picture_path, results_among
from binomctl.cli.trust import import_asked


def plot(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="A result of error-analysis, profile or compare (--json); or run folders, or"
            " folders of them.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The picture: .png, .svg or .pdf.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of runs: whose tasks tell settings apart.")] = "test",
    outer: Annotated[
        bool, typer.Option("--outer", help="Of one run: what a bilevel problem has learned.")
    ] = False,
    trust: flags.TRUST = False,
    force: flags.FORCE = False,
) -> None:
    """One picture of what was measured: errors over L, time and memory, differences, the curves of
    training runs, or the outer variables of a bilevel problem."""
    from binomctl.errors import ConfigError

    folders, results = results_among(sources)
    if results and (folders or len(results) > 1):
        raise ConfigError(
            f"{len(sources)} sources for one picture",
            "Give one result, or run folders; 'binomctl report' puts several on a page.",
        )
    if results:
        from binomctl.comparison.records import draw_record

        ((path, record),) = results
        picture = picture_path(output, f"{path.stem}.svg", force)
        check_outputs(picture, force=force)
        draw_record(path, record, picture)
    elif outer:
        picture = picture_path(output, "outer.svg", force)
        check_outputs(picture, force=force)
        _draw_outer(folders, picture, trust)
    else:
        picture = picture_path(output, "curves.svg", force)
        check_outputs(picture, force=force)
        _draw_runs(folders, picture, split, trust)
    print_note(f"wrote {picture}")


def _draw_outer(folders: list[Path], picture: Path, trust: bool) -> None:
    load_torch()
    from binomctl.comparison.methods import opened
    from binomctl.errors import ConfigError
    from binomctl.problem.build import build_problem
    from binomctl.reporting.figure_groups import draw_groups
    from binomctl.training.outer import groups
    from binomctl.training.state import constants, restore

    found = opened(folders)
    if len(found) != 1:
        raise ConfigError(f"--outer draws one run, not {len(found)}", "Name its folder.")
    ((run, config),) = found
    import_asked(run.path, config, trust)
    checkpoint = run.checkpoints.load("last")
    problem = build_problem(config, constants(checkpoint))
    values = groups(problem, restore(problem, checkpoint)[0])
    if not values:
        raise ConfigError(
            f"{run.path}: '{config.dataset.name}' has no outer variables to show",
            "'binomctl plugins' lists bilevel problems.",
        )
    title = f"{config.dataset.name}, {config.estimator.name}, step {checkpoint.step}"
    draw_groups({name: t.tolist() for name, t in values.items()}, title, picture)


def _draw_runs(folders: list[Path], picture: Path, split: str, trust: bool) -> None:
    load_torch()
    from binomctl.cli.datasets import ensure_all_prepared
    from binomctl.comparison.measure import check_same_tasks, settings
    from binomctl.comparison.methods import methods, opened
    from binomctl.comparison.page import curves_of
    from binomctl.errors import ConfigError
    from binomctl.reporting.figure_curves import draw_curves

    found = opened(folders)
    for run, config in found:
        import_asked(run.path, config, trust)
    ensure_all_prepared(config for _, config in found)
    check_same_tasks(settings(found, split, 0))
    curves, name, unit = curves_of(methods([(run.path, config) for run, config in found]))
    if not curves:
        raise ConfigError("no run has a validation yet: there is no curve", "Wait for the first.")
    draw_curves(curves, name, unit == "share", picture)
