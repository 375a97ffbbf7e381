"""Table 1 of BinomGBML on letters: the runs of a sweep compared, as a page and a kept result.

    binomctl sweep configs/table1-glyphs.yaml --jobs 2
    python benchmarks/table1.py sweeps/table1-glyphs [--tasks 100]

Writes benchmarks/results/table1_glyphs.json (every method's configuration and seeds, every
comparison) and the tables of docs/table1.md. Cells that are not done are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pages import put

from binomctl.cli.comparing import Question, compared_runs
from binomctl.comparison.methods import opened
from binomctl.comparison.report import Section
from binomctl.comparison.tables import Table, details, markdown, overview
from binomctl.machine.environment import environment
from binomctl.runs.resuming import outcome

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/table1_glyphs.json"
PAGE = ROOT / "docs/table1.md"


def kept(section: Section) -> dict[str, Any]:
    """A setting's comparison, with what was compared; runs by their folders' names."""
    report = dict(section.report or {})
    report["pairs"] = [
        {**pair, "run": Path(pair["run"]).name, "runs": [Path(p).name for p in pair["runs"]]}
        for pair in report["pairs"]
    ]
    methods = {m.label: m.config.model_dump(mode="json") for m in section.methods}
    return {"setting": section.label, "report": report, "configurations": methods}


def main() -> None:
    """Compare, keep, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("sweep", type=Path, nargs="+")
    options.add_argument("--tasks", type=int, default=None)
    given = options.parse_args()
    runs = [(run, c) for run, c in opened(given.sweep) if outcome(run.path) is not None]
    sections = compared_runs(runs, Question(tasks=given.tasks))
    result = {
        "schema": "binomctl-benchmarks/table1/1",
        "command": f"python benchmarks/table1.py SWEEP --tasks {given.tasks}",
        "environment": environment(),
        "runs": len(runs),
        "settings": [kept(section) for section in sections],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = overview(sections)
    put(PAGE, "overview", markdown("", table))
    put(PAGE, "details", "\n".join(markdown(s.label, details(s)) for s in sections))
    put(ROOT / "README.md", "table1", markdown("", Table(table.columns, table.rows, "")).rstrip())


if __name__ == "__main__":
    main()
