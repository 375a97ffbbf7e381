"""Figures 2, 3a and 3b of the paper, from `binomctl bounds` and `binomctl error-analysis`.

    python benchmarks/figures.py            measure and draw
    python benchmarks/figures.py --draw     draw again from the kept JSON

Writes benchmarks/results/fig3a*.json, fig3b.json (the commands' reports, with the seconds they took
and the machine) and docs/figures/fig2.svg, fig3a.svg, fig3b.svg. Figure 3a is measured four times,
in float64 and float32, from torch's initial weights and from N(0, 0.01^2).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from binomctl.machine.environment import environment
from binomctl.reporting.figure_errors import draw_errors

ROOT = Path(__file__).parents[1]
RESULTS, FIGURES = ROOT / "benchmarks" / "results", ROOT / "docs" / "figures"
RUNS: dict[str, list[str]] = {
    "fig3b": ["--config", "configs/fig3b.yaml"],
    "fig3a": ["--config", "configs/fig3a.yaml"],
    "fig3a-float32": ["--config", "configs/fig3a.yaml", "--dtype", "float32"],
    "fig3a-small": ["--config", "configs/fig3a.yaml", "--init", "0.01"],
    "fig3a-small-float32": [
        "--config", "configs/fig3a.yaml", "--init", "0.01", "--dtype", "float32",
    ],
}  # fmt: skip


def measure() -> None:
    for name, args in RUNS.items():
        command = ["error-analysis", *args, "--json"]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "binomctl", *command],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        kept = {
            "schema": "binomctl/figure/1",
            "command": "binomctl " + " ".join(command),
            "seconds": round(time.perf_counter() - start, 1),
            "environment": environment(),
            "report": json.loads(done.stdout),
        }
        (RESULTS / f"{name}.json").write_text(dumps(kept))
        print(name, kept["seconds"], "s", flush=True)


def dumps(kept: dict[str, Any]) -> str:
    """JSON, a line for every measured case."""
    report = kept["report"]
    errors = ",\n".join("   " + json.dumps(e) for e in report["errors"])
    rest = {k: v for k, v in report.items() if k != "errors"}
    head = json.dumps({**kept, "report": None}, indent=1).removesuffix('"report": null\n}')
    inner = json.dumps(rest).removesuffix("}")
    return f'{head}"report": {inner}, "errors": [\n{errors}\n ]}}\n}}\n'


def main() -> None:
    if "--draw" not in sys.argv:
        measure()
    reports = {n: json.loads((RESULTS / f"{n}.json").read_text())["report"] for n in RUNS}
    for name in ("fig3a", "fig3b"):
        draw_errors([reports[name]], FIGURES / f"{name}.svg")
    subprocess.run(
        [sys.executable, "-m", "binomctl", "bounds", "--force",
         "--output", str(FIGURES / "fig2.svg")],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for name in (n for n in RUNS if n.startswith("fig3a")):
        trunc, binom = (e["relative"]["values"] for e in reports[name]["errors"])
        ratios = sorted(t / b for t, b in zip(trunc, binom, strict=True))
        print(
            f"{name}: Trunc over Binom at L = 4, median {statistics.median(ratios):.3g}"
            f" ({ratios[len(ratios) // 10]:.3g} to {ratios[9 * len(ratios) // 10]:.3g}, p10 to p90)"
        )


if __name__ == "__main__":
    main()
