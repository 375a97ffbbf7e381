"""The promises, the faults that tests inject for each, and what came of it.

    python benchmarks/reliability.py [--again [FILE ...] | --page]

Runs every test marked @pytest.mark.promise(number, fault=...) and writes
benchmarks/results/reliability.json and the table of docs/reliability.md; with --again those that
failed last, one after another (faults that are timed may miss on a busy machine), or those of
files; with --page the table alone, from the last result.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import put

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks/results/reliability.json", ROOT / "docs/reliability.md"
PROMISES = {
    1: "A save that is killed leaves the previous checkpoint whole",
    2: "A signal, or a limit: the step is finished, saved, and said how to go on from",
    3: "A killed run goes on to the same bits as one that was not",
    4: "A damaged checkpoint is named; --resume auto takes the newest whole one",
    5: "A hostile pickle runs no code",
    6: "Another configuration, other data or a newer schema are refused by name",
    7: "A full disk costs nothing that was saved",
    8: "A torn line of metrics.jsonl costs that line",
    9: "One process at a time writes to a run; a stale lock is none",
    10: "NaN and infinity change nothing and are never the best",
    11: "A lack of memory says its peak and what to lower; chunks give the same number",
    12: "A corrupt data file is named, put aside, fetched once more",
    13: "A download that is cut or stalls leaves no file of its final name",
    14: "An archive writes nothing outside its folder, and is no bomb",
    15: "A configuration is read safely, and refused with its line",
    16: "Too few classes or examples are refused before step 1",
    17: "A plugin that fails disables itself alone",
    18: "A rank that dies ends the others",
    19: "Output stays clean: one JSON object, narrow terminals, closed pipes",
    20: "Every command works without a network",
    21: "A call of the library leaves the user's module as it was",
    22: "A folder from elsewhere runs no code unasked",
    23: "The same seed gives the same bits, however busy the machine",
    24: "Data are never stale, dropped or leaked in silence",
    25: "Every input ends in a result or in an error of ours",
}


class Collected:
    """A pytest plugin that keeps how each marked test ended."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, str], str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        for key, value in report.user_properties:
            if key == "promise":
                self.rows[report.nodeid, *value] = report.outcome


def table(report: dict[str, Any]) -> str:
    lines = ["| promise | faults injected | tests | outcome |", "|---|---|---|---|"]
    for number, words in PROMISES.items():
        rows = [row for row in report["tests"] if row["promise"] == number]
        faults = "; ".join(dict.fromkeys(row["fault"] for row in rows)) or "none yet"
        ends = {end: sum(row["outcome"] == end for row in rows) for end in
                ("passed", "failed", "skipped")}  # fmt: skip
        said = ", ".join(f"{count} {end}" for end, count in ends.items() if count) or "not tested"
        lines.append(f"| {number}. {words} | {faults} | {len(rows)} | {said} |")
    return "\n".join(lines)


def main() -> None:
    if "--page" not in sys.argv:
        from binomctl.machine.environment import environment

        collected = Collected()
        how = ["-q", "-m", "promise", "--rootdir", str(ROOT)]
        if "--again" in sys.argv:
            old = json.loads(RESULT.read_text())["tests"]
            for row in old:
                collected.rows[row["test"], row["promise"], row["fault"]] = row["outcome"]
            failed = {row["test"] for row in old if row["outcome"] == "failed"}
            how += sys.argv[2:] or [str(ROOT / name) for name in sorted(failed)]
        else:
            how += ["-n", "logical", "--maxprocesses", "4", str(ROOT / "tests")]
        pytest.main(how, plugins=[collected])
        rows = [
            {"test": name, "promise": number, "fault": fault, "outcome": outcome}
            for (name, number, fault), outcome in sorted(collected.rows.items())
        ]
        report = {"schema": "binomctl/reliability/1", "environment": environment(), "tests": rows}
        RESULT.write_text(json.dumps(report, indent=1) + "\n")
    put(PAGE, "table", table(json.loads(RESULT.read_text())))


if __name__ == "__main__":
    main()
