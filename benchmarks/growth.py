"""How time and memory of a meta-step grow with everything that a user may turn up.

    python benchmarks/growth.py [--rounds 7]

One size is turned up at a time, from Conv4-16 on 28x28, 5-way 1-shot, B = 4, K = 5. All sizes of a
row are measured in turn, round after round. The exponent is the slope of log(median time) over
log(size) by least squares on the upper half of the sizes, where what is constant counts least; so
for peak memory. Writes benchmarks/results/growth.json, docs/speed.md's table and
docs/figures/growth.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contestants import Case, K
from pages import put
from turns import spread

from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.machine.allocator import tune_allocator
from binomctl.machine.environment import environment
from binomctl.profiling import peak_allocated

ROOT = Path(__file__).parents[1]
RESULT, FIGURE = ROOT / "benchmarks/results/growth.json", ROOT / "docs/figures/growth.svg"
PAGE = ROOT / "docs/speed.md"
BASE: dict[str, Any] = {"model": "conv4", "options": {"filters": 16}, "shape": (1, 28, 28),
                        "shots": 1}  # fmt: skip
MLP: dict[str, Any] = {"model": "mlp", "shape": (1,), "B": 25}
SURPRISE = 0.25
"""By how much an exponent may be above what is expected before the page says so."""

Sized = Callable[[int], tuple[dict[str, Any], int, str, dict[str, Any]]]
"""A size -> the workload, K, the estimator and its options."""
ROWS: dict[str, tuple[Sequence[int], Sized, float, str]] = {
    "K, exact MAML": ((2, 4, 8, 16), lambda n: (BASE, n, "maml", {}), 1, "K products, K gradients"),
    "K, Binom(2)": ((4, 8, 16, 32), lambda n: (BASE, n, "binom", {"L": 2}), 1,
                    "2 (K - 1) products, K gradients"),
    "L, Binom(L) at K = 12": ((1, 2, 3, 6), lambda n: (BASE, 12, "binom", {"L": n}), 1,
                              "L (12 - L + 1) products: less than linear"),
    "B": ((2, 4, 8, 16), lambda n: (BASE | {"B": n}, K, "maml", {}), 1, "tasks are independent"),
    "shots": ((2, 4, 8, 16), lambda n: (BASE | {"shots": n}, K, "maml", {}), 1,
              "support images; the query stays"),
    "ways": ((2, 5, 10, 20), lambda n: (BASE | {"ways": n}, K, "maml", {}), 1,
             "images are ways x (shots + 15)"),
    "filters": ((8, 16, 32, 64), lambda n: (BASE | {"options": {"filters": n}}, K, "maml", {}), 2,
                "channels in times channels out"),
    "image side": ((16, 28, 56, 84), lambda n: (BASE | {"shape": (1, n, n)}, K, "maml", {}), 2,
                   "pixels"),
    "width of the perceptron": (
        (20, 40, 80, 160), lambda n: (MLP | {"options": {"width": n}}, K, "maml", {}), 2,
        "width squared"),
}  # fmt: skip


def step_of(sized: Sized, n: int) -> Callable[[], Any]:
    """A meta-step of a size."""
    spec, steps, name, options = sized(n)
    case = Case(spec, steps)
    step: Callable[[], Any] = case.ours(AnalyticEngine(case.model, case.loss), name, **options)
    return step


def measured(sizes: Sequence[int], sized: Sized, rounds: int) -> list[dict[str, Any]]:
    """Median time, p10, p90 and the peak of what a step allocates, by size."""
    steps = {n: step_of(sized, n) for n in sizes}
    ms: dict[int, list[float]] = {n: [] for n in sizes}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for n, step in steps.items():
            step()
            start = time.perf_counter()
            step()
            ms[n].append(1e3 * (time.perf_counter() - start))
    return [
        {"size": n, **spread(ms[n], 3), "peak_mib": round(peak_allocated(step) / 2**20, 3)}
        for n, step in steps.items()
    ]


def exponent(points: Sequence[dict[str, Any]], key: str) -> float:
    """The slope of log(value) over log(size) on the upper half of the sizes."""
    upper = points[len(points) // 2 - 1 :]
    x, y = (np.log([float(p[k]) for p in upper]) for k in ("size", key))
    return round(float(np.polyfit(x, y, 1)[0]), 2)


def table(rows: dict[str, Any]) -> str:
    lines = [
        "| turned up | sizes | time, ms | exponent | expected at most | peak, MiB | exponent |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        points = row["points"]
        ms, mib = (", ".join(f"{p[key]:.3g}" for p in points) for key in ("median_ms", "peak_mib"))
        over = row["time_exponent"] > row["expected"] + SURPRISE
        note = " (more)" if over else ""
        lines.append(
            f"| {name} | {', '.join(str(p['size']) for p in points)}"
            f" | {ms}"
            f" | {row['time_exponent']:.2f}{note} | {row['expected']:g}: {row['why']}"
            f" | {mib}"
            f" | {row['memory_exponent'] + 0.0:.2f} |"
        )
    return "\n".join(lines)


def draw(rows: dict[str, Any], rounds: int) -> None:
    from binomctl.reporting.figures import caption, new_figure, save
    from binomctl.reporting.look import COLOURS, tint

    columns = 3
    figure = new_figure(8.6, 2.3 * math.ceil(len(rows) / columns))
    grid = figure.subplots(math.ceil(len(rows) / columns), columns).flat
    for axes, (name, row) in zip(grid, rows.items(), strict=False):
        x = [p["size"] for p in row["points"]]
        y = [p["median_ms"] for p in row["points"]]
        expected = [y[-1] * (n / x[-1]) ** row["expected"] for n in x]
        axes.loglog(x, expected, color=tint(COLOURS[0], 0.4), linestyle="--", linewidth=1)
        low = [a - p["p10_ms"] for a, p in zip(y, row["points"], strict=True)]
        high = [p["p90_ms"] - a for a, p in zip(y, row["points"], strict=True)]
        axes.errorbar(x, y, yerr=[low, high], color=COLOURS[1], marker="o", markersize=4)
        axes.set_xticks(x, [str(n) for n in x])
        ends = sorted({min(y), max(y)})
        axes.set_yticks(ends, [f"{value:.3g}" for value in ends])
        axes.minorticks_off()
        axes.set_title(f"{name}: exponent {row['time_exponent']:.2f}", fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        axes.set_ylabel("ms", fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    caption(
        figure,
        "time of a meta-step against one size; dashed: the expected exponent through the last"
        f" point; median, p10 to p90 of n = {rounds} steps",
    )
    save(figure, FIGURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--draw", action="store_true", help="draw again from the kept JSON")
    args = parser.parse_args()
    if args.draw:
        report = json.loads(RESULT.read_text())
    else:
        tune_allocator()
        rows = {}
        for name, (sizes, sized, expected, why) in ROWS.items():
            points = measured(sizes, sized, args.rounds)
            rows[name] = {
                "points": points, "expected": expected, "why": why,
                "time_exponent": exponent(points, "median_ms"),
                "memory_exponent": exponent(points, "peak_mib"),
            }  # fmt: skip
            print(name, rows[name]["time_exponent"], rows[name]["memory_exponent"], flush=True)
        report = {
            "schema": "binomctl-benchmarks/growth/1",
            "command": f"python benchmarks/growth.py --rounds {args.rounds}",
            "environment": environment(),
            "config": {"base": BASE, "mlp": MLP, "K": K, "dtype": "float32", "seed": 0},
            "rounds": args.rounds,
            "rows": rows,
        }
        RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    put(PAGE, "growth", table(report["rows"]))
    draw(report["rows"], report["rounds"])


if __name__ == "__main__":
    main()
