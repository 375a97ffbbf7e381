"""Do fitted weights on top of deflation pay? (calibrated's option r)

    python benchmarks/deflated_weights.py

Weights c_0 .. c_L of the orders in the rest R = H - low are fitted on 16 tasks (as `calibrated`
does) and judged on 16 others, beside Taylor's 1 and beside calibrated without a low rank; medians
of relative errors, float64. Writes benchmarks/results/deflated_weights.json and a table of
docs/beyond.md.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import torch
from beyond import TASKS, problem_of, trained
from pages import put

from binomctl.adapt import adapt_and_validate
from binomctl.expansion import deflated, elementary_sums, weighed
from binomctl.machine.environment import environment
from binomctl.settings import registry

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks/results/deflated_weights.json", ROOT / "docs/beyond.md"
SETTINGS = [("sinusoid", 20, 0.01), ("transformer", 20, 0.01),
            ("transformer", 20, 0.1), ("glyphs", 5, 0.1)]  # fmt: skip


def errors(workload: str, K: int, alpha: float, theta: Any, r: int, L: int) -> dict[str, float]:
    problem = problem_of(workload, K, alpha, 0)
    calibrated = registry.create("estimator", "calibrated", {"L": L})
    parts, exact = [], []
    n = TASKS[workload]
    for first in (10_000, 10_000 + n):
        batch = problem.training_batch(range(first, first + n))
        how = problem.adaptation(batch, problem.m)
        at = theta.to(problem.theta)
        adapted = adapt_and_validate(problem.engine, at, batch, how, range(K))[0]
        parts.append(elementary_sums(deflated(adapted, r) if r else adapted, L))
        exact.append(calibrated._exact(adapted))
    fitted = calibrated._fit(adapted, parts[0], exact[0])
    found = {}
    for name, c in (("taylor", torch.ones_like(fitted)), ("fitted", fitted)):
        gap = weighed(parts[1], alpha, c) - exact[1]
        found[name] = statistics.median((gap.norm(dim=1) / exact[1].norm(dim=1)).tolist())
    return found


def table(report: dict[str, Any]) -> str:
    lines = ["| trained network | K | alpha | r | L | weights 1 | fitted weights |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in report["rows"]:
        cells = [row[k] for k in ("workload", "K", "alpha", "r", "L")]
        cells += [f"{row[k]:.2g}" for k in ("taylor", "fitted")]
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for workload, K, alpha in SETTINGS:
        theta = trained(workload, "trained")
        for r, L in ((0, 1), (0, 2), (2, 1), (2, 2), (3, 1)):
            row = {"workload": workload, "K": K, "alpha": alpha, "r": r, "L": L,
                   **errors(workload, K, alpha, theta, r, L)}  # fmt: skip
            rows.append(row)
            print(row, flush=True)
    report = {"schema": "binomctl/deflated-weights/1", "environment": environment(),
              "tasks": TASKS, "rows": rows}  # fmt: skip
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    put(PAGE, "weights", table(report))


if __name__ == "__main__":
    main()
