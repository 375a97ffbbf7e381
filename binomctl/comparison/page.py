"""The report page of some runs: what is on it, from their folders and their comparisons."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import binomctl.runs.metrics as metrics
from binomctl.comparison.methods import Method, identity
from binomctl.comparison.report import Section
from binomctl.comparison.tables import COLUMNS, csv_rows, details, overview
from binomctl.reporting.figure_curves import Curve, draw_curves
from binomctl.reporting.figures import as_svg
from binomctl.reporting.page_template import PAGE
from binomctl.runs.directory import read_list
from binomctl.runs.resuming import outcome


def page(sections: Sequence[Section], title: str, pictures: Sequence[tuple[str, str, str]]) -> str:
    """A self-contained HTML page: the same input gives the same bytes.

    Args:
        pictures: of results of other commands, (title, caption, svg).
    """
    found = [method for section in sections for method in section.methods]
    runs = [_run(method, seed, path) for method in found for seed, path in method.runs.items()]
    compared = [section for section in sections if section.report]
    many = len(sections) > 1
    csvs = [("runs.csv", _table_of(runs)), ("curves.csv", _table_of(_points(found)))]
    if compared:
        csvs.insert(0, ("comparison.csv", csv_rows(compared)))
    return jinja2.Environment(autoescape=True).from_string(PAGE).render(
        title=title, warnings=_warnings(sections, runs), columns=COLUMNS,
        overview=overview(sections) if len(compared) > 1 else None,
        sections=[_section(i, s, many) for i, s in enumerate(sections)],
        pictures=[{"title": t, "caption": c, "svg": Markup(svg)} for t, c, svg in pictures],
        runs=runs, csv=[{"name": name, "data": _encoded(rows)} for name, rows in csvs if runs],
    )  # fmt: skip


def _section(number: int, section: Section, many: bool) -> dict[str, Any]:
    """What the template shows of a setting; number tells its curves from the others'."""
    report = section.report
    title = section.label if many else ""
    ids = f"s{number}-"
    labels, differences = _differences(section.methods)
    out = {
        "title": title, "number": number, "labels": labels, "differences": differences,
        "figure": _curves(section.methods, ids), "rows": [], "note": "", "methods": labels,
        "subtitle": "Nothing is compared: there is one method, or nothing to test yet.",
    }  # fmt: skip
    if report is None:
        return out
    table = details(section)
    values = [
        (p["label"], p["mean"], p["difference"], p["p_holm"], p["seconds_ratio"], p["verdict"])
        for p in report["pairs"]
    ]
    place = {label: i for i, label in enumerate(labels)}
    return out | {
        "note": table.note,
        "rows": [
            {"place": place[texts[0]], "reference": of[2] is None,
             "cells": [{"text": text, "value": "" if value is None else value}
                       for text, value in zip(texts, of, strict=True)]}
            for texts, of in zip(table.rows, values, strict=True)
        ],
        "subtitle": f"{report['metric']} on {report['n']:,} {report['split']} tasks, the same for"
        f" every run, after {_depths(report)} adaptation steps; seeds"
        f" {', '.join(map(str, report['seeds']))}; compared with {report['reference']}.",
    }  # fmt: skip


def _depths(report: dict[str, Any]) -> str:
    """10, or "each method's own (1 to 20)"."""
    found = sorted({pair["adaptation_steps"] for pair in report["pairs"]})
    return str(found[0]) if len(found) == 1 else f"each method's own ({found[0]} to {found[-1]})"


def _run(method: Method, seed: int, path: Path) -> dict[str, Any]:
    report = outcome(path)
    logged = metrics.read(path / "metrics.jsonl")
    step = logged[-1]["step"] if logged else 0
    starts = read_list(path / "environment.json")
    last: dict[str, Any] = starts[-1] if starts and isinstance(starts[-1], dict) else {}
    devices = [last.get("cpu"), *(last.get("gpus") or [])]
    machine = ", ".join(str(one) for one in devices if one)
    return {
        "name": path.name, "label": method.label, "seed": seed,
        "state": "done" if report else f"step {step} of {method.config.training.steps}",
        "seconds": f"{report['seconds']:.0f}" if report else "-",
        "skipped": report["skipped"] if report else sum("skipped" in r for r in logged),
        "machine": machine, "torch": str((last.get("packages") or {}).get("torch", "")),
    }  # fmt: skip


def _warnings(sections: Sequence[Section], runs: Sequence[dict[str, Any]]) -> list[str]:
    out = [warning for section in sections if section.report
           for warning in section.report["warnings"]]  # fmt: skip
    if len({run["machine"] for run in runs}) > 1:
        out.append("The runs are from several machines: their times are not comparable.")
    if skipping := [run["name"] for run in runs if run["skipped"]]:
        out.append(f"Steps that were not finite were skipped in {', '.join(skipping)}.")
    return out


def _curves(found: Sequence[Method], ids: str) -> dict[str, Any] | None:
    curves, name, unit = curves_of(found)
    if not curves:
        return None
    svg = as_svg(lambda target: draw_curves(curves, name, unit == "share", target, ids))
    return {
        "title": "Training", "svg": Markup(svg),
        "caption": f"Validation {name} and the loss of the meta-batches along training, means over"
        " seeds; bands: 95% CI over seeds (Student t), from three seeds on. The best of many"
        " validations is a maximum: the table's means are of test tasks.",
    }  # fmt: skip


def curves_of(found: Sequence[Method]) -> tuple[list[Curve], str, str]:
    """Validations along training of every method that has some, their metric's name and unit."""
    curves, name, unit = [], "", "number"
    for number, method in enumerate(found):
        runs, losses = [], []
        for path in method.runs.values():
            logged = metrics.read(path / "metrics.jsonl")
            name, unit = metrics.scored_by(logged) if logged else (name, unit)
            runs.append(_along(logged, f"validation_{name}"))
            losses.append(_along(logged, "train_loss"))
        if runs and all(runs):
            kept = losses if all(losses) else ()
            curves.append(Curve(method.config.estimator.name, method.label, runs, kept, number))
    return curves, name, unit


def _along(logged: Sequence[dict[str, Any]], key: str) -> dict[int, float]:
    return {r["step"]: r[key] for r in logged if r.get(key) is not None}


def _differences(found: Sequence[Method]) -> tuple[list[str], list[tuple[str, list[Any]]]]:
    """Keys in which methods differ, with every method's value."""
    flat = [identity(m.config) for m in found]
    keys = sorted(k for k in set().union(*flat) if len({str(f.get(k)) for f in flat}) > 1)
    rows = [(k, [f.get(k, "-") for f in flat]) for k in keys]
    return [m.label for m in found], rows


def _points(found: Sequence[Method]) -> list[dict[str, Any]]:
    return [
        {"method": method.label, "run": path.name, "seed": seed, **record}
        for method in found
        for seed, path in method.runs.items()
        for record in metrics.read(path / "metrics.jsonl")
        if any(k.startswith("validation") for k in record)
    ]


def _table_of(rows: Sequence[dict[str, Any]]) -> Iterable[list[Any]]:
    names = list(dict.fromkeys(key for row in rows for key in row))
    return [names, *([row.get(name, "") for name in names] for row in rows)]


def _encoded(rows: Iterable[list[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return base64.b64encode(file.getvalue().encode()).decode()
