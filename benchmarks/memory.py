"""Peak memory of a meta-step against K and against L, and its picture.

    python benchmarks/memory.py             measure, draw
    python benchmarks/memory.py --draw      draw again from the kept JSON

Every allocation and release of tensor memory is counted (binomctl.profiling.peak_allocated), so
the figures are exact and the same in every run. Conv4 with 16 filters on 28x28x1, 5-way 5-shot,
5 query images, 1 task, one thread. Writes benchmarks/results/memory.json and
docs/figures/memory.svg.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from binomctl.adapt import adapt_and_validate
from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.machine.environment import environment
from binomctl.problem.build import build_problem
from binomctl.profiling import peak_allocated
from binomctl.reporting.figures import caption, legend_below, new_figure, save, style
from binomctl.reporting.look import series
from binomctl.settings.layers import load_config

ROOT = Path(__file__).parents[1]
RESULT, FIGURE = ROOT / "benchmarks/results/memory.json", ROOT / "docs/figures/memory.svg"
ENGINES: dict[str, Any] = {"analytic": AnalyticEngine, "autograd": AutogradEngine}
SCHEDULES: dict[str, dict[str, Any]] = {
    "store": {"memory": "store", "order": "rows"},
    "recompute, rows": {"memory": "recompute", "order": "rows"},
    "recompute, columns in parallel": {"memory": "recompute", "order": "columns"},
}
SETTINGS = {
    "dataset.shots": 5,
    "dataset.queries": 1,
    "model.filters": 16,
    "training.meta_batch": 1,
}


def peak(kind: str, schedule: str, estimator: dict[str, Any], K: int) -> dict[str, int]:
    """Peak bytes of a meta-step, and the bytes of its trajectory phi^0..phi^K."""
    overrides = {f"estimator.{k}": v for k, v in estimator.items()}
    config, _ = load_config(overrides={**SETTINGS, **overrides, "adaptation.K": K})
    problem = build_problem(config)
    options = dict(SCHEDULES[schedule])
    if kind == "autograd" and options["order"] == "columns":
        options["batching"] = "vmap"
    engine = ENGINES[kind](problem.model, problem.dataset.loss, threads=1, **options)
    batch = problem.training_batch(range(config.training.meta_batch))
    how = problem.adaptation(batch, problem.m)
    keep = problem.estimator.steps(K)

    def step() -> None:
        adapted, _, _ = adapt_and_validate(engine, problem.theta, batch, how, keep)
        problem.estimator.meta_gradient(adapted)

    step()
    trajectory = (K + 1) * len(batch) * problem.theta.numel() * problem.theta.element_size()
    return {"peak_bytes": peak_allocated(step), "trajectory_bytes": trajectory}


def measure() -> dict[str, Any]:
    over_K = [
        {"engine": e, "schedule": s, "K": K, **peak(e, s, {"name": "maml"}, K)}
        for e in ENGINES
        for s in ("store", "recompute, rows")
        for K in (5, 10, 20, 50)
    ]
    over_L = [
        {"engine": e, "schedule": s, "L": L, **peak(e, s, {"name": "binom", "L": L}, 10)}
        for e in ENGINES
        for s in SCHEDULES
        for L in range(1, 11)
    ]
    return {
        "schema": "binomctl/memory/1",
        "environment": environment(),
        "config": {"model": "conv4-16, 28x28x1", "ways": 5, **SETTINGS},
        "maml_over_K": over_K,
        "binom_over_L_at_K_10": over_L,
    }


def draw(report: dict[str, Any]) -> None:
    figure = new_figure(9.0, 3.5)
    left, right = figure.subplots(1, 2)
    panels = (
        (left, report["maml_over_K"], "K", "exact MAML, beyond the trajectory"),
        (right, report["binom_over_L_at_K_10"], "L", "Binom(L) at K = 10, beyond the trajectory"),
    )
    for axes, rows, letter, title in panels:
        for i, schedule in enumerate(SCHEDULES):
            mine = [r for r in rows if (r["engine"], r["schedule"]) == ("analytic", schedule)]
            if mine:
                mib = [(r["peak_bytes"] - r["trajectory_bytes"]) / 2**20 for r in mine]
                axes.plot([r[letter] for r in mine], mib, label=schedule, **series(i + 1))
        axes.set_ylim(bottom=0)
        style(axes, title, letter, "peak memory, MiB")
    config = report["config"]
    caption(
        figure,
        f"glyphs, {config['model']}, {config['ways']}-way {config['dataset.shots']}-shot,"
        f" {config['dataset.queries']} query image a class, analytic engine, float32, alpha = 0.1"
        f" (sizes do not depend on it), n = {config['training.meta_batch']} task, every allocation"
        " counted",
    )
    legend_below(figure, [right, left])
    FIGURE.parent.mkdir(exist_ok=True)
    save(figure, FIGURE)


def main() -> None:
    if "--draw" in sys.argv:
        draw(json.loads(RESULT.read_text()))
        return
    report = measure()
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    draw(report)
    peaks = {
        (r["engine"], r["schedule"], r["K"]): r["peak_bytes"] - r["trajectory_bytes"]
        for r in report["maml_over_K"]
    }
    for kind in ENGINES:
        for schedule in ("store", "recompute, rows"):
            ratio = peaks[kind, schedule, 50] / peaks[kind, schedule, 5]
            print(f"{kind}, {schedule}: K = 50 over K = 5 {ratio:.3f}")
    for r in report["binom_over_L_at_K_10"]:
        print(f"{r['engine']} {r['schedule']:32} L = {r['L']:2} {r['peak_bytes'] / 2**20:8.2f} MiB")


if __name__ == "__main__":
    main()
