"""`binomctl bounds`."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, print_titled, write_csv
from binomctl.cli.counting import Counting
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs, numbered, picture_path

if TYPE_CHECKING:
    from binomctl.theory.bounds import Curve, Setting, Theorem
    from binomctl.theory.certify import Finding


def bounds(
    K: Annotated[int, typer.Option("--K", help="Inner gradient steps.")] = 5,
    alpha: Annotated[float, typer.Option(help="Inner step size.")] = 0.25,
    H: Annotated[float, typer.Option("--H", help="Largest |curvature|: |H_k| <= H.")] = 1.0,
    h: Annotated[float, typer.Option("--h", help="Least curvature of the last M steps.")] = 0.1,
    M: Annotated[int, typer.Option("--M", help="Steps that are strongly convex.")] = 1,
    theorem: Annotated[str, typer.Option(help="all, 3.6, 3.8 or 3.10.")] = "all",
    normalize: Annotated[
        bool | None,
        typer.Option(
            "--normalize/--no-normalize",
            help="Divide by the paper's bound for FOMAML; default: in the picture, as in Figure 2.",
        ),
    ] = None,
    certify: Annotated[
        bool, typer.Option("--certify", help="Search for Hessians that violate a bound.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    beyond: Annotated[
        bool, typer.Option("--beyond", help="Bounds of head, deflated and minimax beside them.")
    ] = False,
    decay: Annotated[float, typer.Option(help="For --beyond: |H_k| <= H decay^k.")] = 1.0,
    change: Annotated[float, typer.Option(help="For --beyond: |H_k - Hbar| <= change H.")] = 0.1,
    plot: flags.PLOT = False,
    output: flags.OUTPUT = None,
    csv: flags.CSV = None,
    force: flags.FORCE = False,
    json_output: flags.JSON = False,
) -> None:
    """Bound the error of FOMAML, TruncMAML and BinomMAML: Theorems 3.6, 3.8 and 3.10.

    Values are factors of |g|. Where the paper's bound does not hold for Hessians that do not \
commute, the corrected one stands beside it; --certify looks for a counterexample. The defaults \
are those of Figure 2.
    """
    from binomctl.errors import ConfigError
    from binomctl.theory.bounds import Setting, curves, failed_assumption, normalized
    from binomctl.theory.report import csv_rows, report_of

    setting = Setting(K, alpha, H, h, M)
    _check(setting)
    chosen = _theorems(theorem)
    picture = picture_path(output, "bounds.png", force) if plot or output else None
    check_outputs(picture, csv, force=force)
    skipped = {t: reason for t in chosen if (reason := failed_assumption(t, setting))}
    if len(skipped) == len(chosen):
        raise ConfigError(" ".join(skipped.values()), "Choose values that a theorem allows.")
    for reason in skipped.values():
        print_note(f"left out: {reason}")
    found = curves(setting, chosen)
    shown = normalized(found) if normalize else found
    findings = _certify(setting, found, seed, force) if certify else []
    others = _beyond(setting, decay, change) if beyond else {}
    if csv is not None:
        write_csv(csv, csv_rows(shown))
    if picture is not None:
        from binomctl.reporting.figure_bounds import draw_bounds

        over = normalize is not False
        caption = f"K = {K}, alpha = {alpha:g}, H = {H:g}, h = {h:g}, M = {M}"
        if others:
            caption += f"; beyond: |H_k| <= H {decay:g}^k, |H_k - Hbar| <= {change:g} H"
        draw_bounds(normalized(found) if over else found, caption, over, picture, others)
        print_note(f"wrote {picture}")
    if json_output:
        report = report_of(setting, shown, bool(normalize), skipped, findings)
        if others:
            report["beyond"] = {"decay": decay, "change": change, "curves": others}
        print_json(report)
        return
    _print_curves(shown, bool(normalize))
    if others:
        _print_beyond(others)
    if findings:
        _print_findings(findings)


def _check(s: Setting) -> None:
    from binomctl.errors import ConfigError
    from binomctl.ranges import check_count, check_positive

    check_count("--K", s.K)
    check_positive("--alpha", s.alpha)
    check_positive("--H", s.H)
    if s.a < Decimal("1e-30"):
        raise ConfigError(
            f"--alpha, --H: alpha H = {s.a:.3g} is too small to be told from 0 with 50 digits",
            "Choose a larger one.",
        )
    if not math.isfinite(s.h):
        raise ConfigError(f"--h {s.h}: must be finite", "Give a number up to H.")


def _beyond(s: Setting, decay: float, change: float) -> dict[str, list[float]]:
    from binomctl.errors import ConfigError
    from binomctl.theory.beyond import LARGEST, Path, beyond_curves

    for name, value in (("decay", decay), ("change", change)):
        if not 0 <= value <= 1:
            raise ConfigError(
                f"--{name} {value}: must be a share of H, from 0 to 1", "Give 0.5, say."
            )
    if s.K > LARGEST or s.a > 10:
        raise ConfigError(
            f"--beyond with --K {s.K}, alpha H = {float(s.a):g}: the numbers leave the doubles",
            f"Choose --K up to {LARGEST} and alpha H up to 10.",
        )
    return beyond_curves(Path(s.K, s.alpha, s.H, decay, change))


def _print_beyond(others: dict[str, list[float]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("L", justify="right")
    for name in others:
        table.add_column(name, justify="right")
    K = len(next(iter(others.values()))) - 1
    shown = range(K + 1) if K < 12 else sorted({round(i * K / 11) for i in range(12)})
    for L in shown:
        table.add_row(str(L), *(f"{values[L]:.3g}" for values in others.values()))
    print_titled(Console(), "Beyond the paper, factors of |g|", table)


def _theorems(name: str) -> tuple[Theorem, ...]:
    from binomctl.errors import ConfigError, unknown
    from binomctl.theory.bounds import THEOREMS

    if name == "all":
        return THEOREMS
    matching = tuple(t for t in THEOREMS if t == name)
    if not matching:
        raise ConfigError(
            f"--theorem: {unknown('theorem', name, ['all', *THEOREMS])}",
            "Leave it out for all three.",
        )
    return matching


def _certify(s: Setting, found: list[Curve], seed: int, force: bool) -> list[Finding]:
    load_torch()
    from binomctl.theory.certify import save_witness, searches, verify_witness, worst

    if s.K > 50:
        from binomctl.errors import ConfigError

        raise ConfigError(
            f"--certify with --K {s.K}: the search is meant for K up to 50", "Lower --K."
        )
    print_note("for every method and L the Hessians, d = 2 and 3, with the largest error:")
    findings, asked = [], searches(s, found)
    with Counting("searching", len(asked), "cases") as counting:
        for search in asked:
            counting.doing(f"{search.theorem}, {search.method}, L = {search.L}")
            f = worst(s, search, seed)
            counting.advance()
            if f.violates_paper:
                path = Path(f.name) if force else numbered(Path(f.name))
                save_witness(path, s, f)
                verify_witness(path)  # from the file, as anybody would
                print_note(f"wrote {path}, which violates the paper's bound")
                f = replace(f, witness=path)
            findings.append(f)
    return findings


def _print_curves(found: list[Curve], over: bool) -> None:
    """A table for every theorem, at most 12 of its L, with a small plot in its last column."""
    from rich.console import Console

    from binomctl.cli.plots import bound_tables

    console = Console()
    unit = "over the paper's bound for FOMAML" if over else "factors of |g|"
    for theorem in dict.fromkeys(c.theorem for c in found):
        mine = [c for c in found if c.theorem == theorem]
        for source, table in bound_tables(mine, console.width):
            print_titled(console, f"Theorem {theorem}{source}, {unit}", table)


def _print_findings(findings: list[Finding]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("theorem", "method", "L", "found", "paper", "corrected", ""):
        table.add_column(name, overflow="fold")
    for f in findings:
        verdict = "violates the paper's" if f.violates_paper else ""
        verdict = "VIOLATES THE CORRECTED" if f.violates_corrected else verdict
        numbers = (f"{v:.4f}" for v in (f.factor, f.paper, f.corrected))
        table.add_row(f.theorem, f.method, str(f.L), *numbers, verdict)
    print_titled(Console(), "Worst error found, factors of |g| (re-computed in float64)", table)
