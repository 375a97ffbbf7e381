"""Table 1 on letters: a sweep's runs compared, as a page and a result.

    binomctl sweep configs/table1-glyphs.yaml --jobs 2
    python benchmarks/table1.py SWEEP ... --tasks 100 --page

A night's sweep may be done in parts: every finished run's scores are kept in
benchmarks/results/table1_runs.json, and `--rest FOLDER` writes the grid of the cells that are not:

    python benchmarks/table1.py --rest /tmp/rest && binomctl sweep /tmp/rest/grid.yaml --jobs 2

`--page` writes benchmarks/results/table1_glyphs.json (every method's configuration and seeds, every
comparison) and the tables of docs/table1.md. Cells that are not done are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from pages import put

from binomctl.comparison.measure import Setting, measured, settings
from binomctl.comparison.methods import identity, methods, natural, opened, reference_of
from binomctl.comparison.report import Scored, Section, compared
from binomctl.comparison.shared import shared_tasks
from binomctl.comparison.tables import details, markdown, overview
from binomctl.episodes import ACCURACY
from binomctl.machine.environment import environment
from binomctl.problem.build import resolved
from binomctl.runs.resuming import outcome
from binomctl.settings.config import Config
from binomctl.sweeps.grid import read_grid

ROOT = Path(__file__).parents[1]


GRID = ROOT / "configs/table1-glyphs.yaml"
RUNS = ROOT / "benchmarks/results/table1_runs.json"
RESULT = ROOT / "benchmarks/results/table1_glyphs.json"
PAGE = ROOT / "docs/table1.md"


def key_of(config: Config) -> str:
    """What a run is, wherever it was computed."""
    return json.dumps([identity(config), config.seed], sort_keys=True)


def kept_runs(file: Path) -> dict[str, dict[str, Any]]:
    """The runs whose scores are known, by what they are."""
    listed = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.exists() else []
    return {key_of(Config.model_validate(run["config"])): run for run in listed}


def add(column: Setting, tasks: int | None, known: dict[str, dict[str, Any]]) -> None:
    """The scores of a setting's finished runs."""
    shared, _ = shared_tasks((config for _, config in column.runs), "test", tasks, None, 0)
    for run, config in column.runs:
        key = key_of(config)
        if key not in known:
            scored, _ = measured(run, config, None, shared, column.data)
            known[key] = {
                "name": run.path.name, "setting": column.label, "steps": scored.adaptation_steps,
                "tasks": shared.tasks, "scores": [round(v, 6) for v in scored.scores],
                "seconds": scored.seconds, "step": scored.step,
                "config": config.model_dump(mode="json"),
            }  # fmt: skip


def section(label: str, runs: list[dict[str, Any]]) -> Section:
    """A setting's methods and their comparison."""
    configs = {Path(r["name"]): Config.model_validate(r["config"]) for r in runs}
    scores = {
        Path(r["name"]): Scored(r["scores"], r["seconds"], r["step"], r["steps"]) for r in runs
    }
    found = methods(list(configs.items()))
    shared, _ = shared_tasks(configs.values(), "test", runs[0]["tasks"], None, 0)
    report = compared(found, reference_of(found, None), scores, ACCURACY, shared)
    return Section(label, found, report)


def kept(one: Section) -> dict[str, Any]:
    """A setting's comparison, with what was compared; runs by their folders' names."""
    labels = {m.label: m.config.model_dump(mode="json") for m in one.methods}
    report = dict(one.report or {})
    report["pairs"] = [
        {**pair, "run": Path(pair["run"]).name, "runs": [Path(p).name for p in pair["runs"]]}
        for pair in report["pairs"]
    ]
    return {"setting": one.label, "report": report, "configurations": labels}


def write_rest(grid: Path, folder: Path, known: dict[str, dict[str, Any]]) -> None:
    """A grid of the cells that are not known, each a file."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for cell in read_grid(grid):
        config = resolved(cell.config)
        if key_of(config) not in known:
            names.append(f"{cell.name}.yaml")
            text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
            (folder / names[-1]).write_text(text, encoding="utf-8")
    rest = {"methods": [{"config": name} for name in names]}
    (folder / "grid.yaml").write_text(yaml.safe_dump(rest), encoding="utf-8")
    print(f"{len(names)} cells are left")


def about(given: argparse.Namespace) -> dict[str, Any]:
    """How a result came about."""
    command = f"python benchmarks/table1.py SWEEP --tasks {given.tasks}"
    return {"command": command, "environment": environment()}


def save(
    file: Path, given: argparse.Namespace, known: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Keep the scored runs; returns them in their order."""
    listed = sorted(known.values(), key=lambda run: natural(run["name"]))
    whole = {"schema": "binomctl-benchmarks/table1-runs/1", **about(given), "runs": listed}
    file.write_text(json.dumps(whole) + "\n", encoding="utf-8")
    return listed


def main() -> None:
    """Score, keep, compare, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("sweep", type=Path, nargs="*")
    options.add_argument("--tasks", type=int, default=None)
    options.add_argument("--rest", type=Path, default=None)
    options.add_argument("--page", action="store_true", help="write the tables, too")
    given = options.parse_args()
    known = kept_runs(RUNS)
    if given.rest is not None:
        write_rest(GRID, given.rest, known)
        return
    runs = [(run, c) for run, c in opened(given.sweep) if outcome(run.path) is not None]
    for column in settings(runs, "test", 0):
        add(column, given.tasks, known)
        save(RUNS, given, known)  # what is scored stays scored, whatever comes
    listed = save(RUNS, given, known)
    print(f"{len(listed)} runs are kept")
    if not given.page:
        return
    sections = sections_of(listed)
    result = {
        "schema": "binomctl-benchmarks/table1/1", **about(given), "runs": len(listed),
        "settings": [kept(one) for one in sections],
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for mark, text in tables(sections).items():
        put(PAGE, mark, text)


def sections_of(listed: list[dict[str, Any]]) -> list[Section]:
    """Kept runs by their settings."""
    labels = sorted({run["setting"] for run in listed}, key=natural)
    return [section(x, [run for run in listed if run["setting"] == x]) for x in labels]


def tables(sections: list[Section]) -> dict[str, str]:
    """By their marks in docs/table1.md."""
    whole = "\n".join(markdown(s.label, details(s)) for s in sections)
    return {"overview": markdown("", overview(sections)), "details": whole}


if __name__ == "__main__":
    main()
