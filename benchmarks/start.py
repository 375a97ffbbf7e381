"""When every command says its first word and when it is done, on small work.

    python benchmarks/start.py

Each command in a process of its own, as a user would run it, all of them in turn, round after
round, on an otherwise idle machine. Writes benchmarks/results/start.json and the table of
docs/speed.md. Aims: a first line within 2 s, a sinusoid run of 10 meta-steps within 3 s.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pages import put

from binomctl.machine.environment import environment

HERE = Path(__file__).parent
RESULT = HERE / "results" / "start.json"
PAGE = HERE.parent / "docs" / "speed.md"
ROUNDS = 7
SMALL = "--dataset sinusoid --estimators fomaml,maml"
COMMANDS = {
    "--help": "--help",
    "train, sinusoid, 10 meta-steps": "train --dataset sinusoid --steps 10 --out new-{round}",
    "eval, 600 tasks": "eval run",
    "error-analysis": f"error-analysis {SMALL} --batches 2",
    "profile": f"profile {SMALL} --seconds 0.2",
    "bounds": "bounds --K 5",
    "bounds --plot, a file": "bounds --K 5 -o curves-{round}.svg",
    "compare": "compare run other --tasks 100",
    "report": "report run -o report.html --force",
    "plot": "plot run -o curve.svg --force",
    "sweep --dry-run": "sweep grid.yaml --dry-run",
    "runs ls": "runs ls .",
    "doctor": "doctor",
    "plugins": "plugins",
    "config show": "config show",
}


def timed(arguments: str, folder: Path) -> tuple[float, float]:
    """Seconds until the first line, of output or of progress, and until the end."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "binomctl", *arguments.split()], cwd=folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        first = time.perf_counter() - began
        rest = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{arguments}: {(line + rest).decode()}")
    return first, time.perf_counter() - began


def table(report: dict[str, Any]) -> str:
    """The kept medians as Markdown."""
    lines = ["| command | first line, s | done, s | slowest of each |", "|---|---|---|---|"]
    for name, row in report["commands"].items():
        first, done = row["first"], row["done"]
        lines.append(f"| {name} | {first['median']:.2f} | {done['median']:.2f} "
                     f"| {first['max']:.2f}, {done['max']:.2f} |")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "grid.yaml").write_text(
            "common: {dataset.name: sinusoid}\nmethods: [{estimator.name: maml}]\n"
        )
        for out, estimator in (("run", "maml"), ("other", "fomaml")):
            timed(
                f"train --dataset sinusoid --steps 10 --estimator {estimator} --out {out}", folder
            )
        for i in range(ROUNDS):
            for name, arguments in COMMANDS.items():
                times[name].append(timed(arguments.format(round=i), folder))

    def spread(seconds: list[float]) -> dict[str, float]:
        return {"median": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)}

    report = {
        "schema": "binomctl/start/1",
        "environment": environment(),
        "rounds": ROUNDS,
        "commands": {
            name: {"arguments": COMMANDS[name], "first": spread([a for a, _ in seconds]),
                   "done": spread([b for _, b in seconds])}
            for name, seconds in times.items()
        },
    }  # fmt: skip
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    put(PAGE, "start", table(report))
    print(table(report))


if __name__ == "__main__":
    main()
