"""Peak memory of a meta-step against K and against L, and its picture.

    python benchmarks/memory.py

Every allocation and release of tensor memory is counted (binomctl.profiling.peak_allocated), so
the figures are exact and the same in every run. Conv4 with 16 filters on 28x28x1, 5-way 5-shot,
5 query images, 1 task, one thread. Writes benchmarks/results/memory.json and
docs/figures/memory.svg.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from binomctl.adapt import adapt_and_validate
from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.machine.environment import environment
from binomctl.problem.build import build_problem
from binomctl.profiling import peak_allocated
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
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "binomctl"
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    panels = (
        (left, report["maml_over_K"], "K", "exact MAML, beyond the trajectory"),
        (right, report["binom_over_L_at_K_10"], "L", "Binom(L) at K = 10, beyond the trajectory"),
    )
    colours = dict(zip(SCHEDULES, ("#c0392b", "#1f6fb2", "#2e8b57"), strict=True))
    for axes, rows, letter, title in panels:
        for schedule, colour in colours.items():
            mine = [r for r in rows if (r["engine"], r["schedule"]) == ("analytic", schedule)]
            if mine:
                mib = [(r["peak_bytes"] - r["trajectory_bytes"]) / 2**20 for r in mine]
                xs = [r[letter] for r in mine]
                axes.plot(xs, mib, "o-", color=colour, label=schedule, markersize=4)
        axes.set(xlabel=letter, ylabel="peak memory, MiB", title=title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None})


def main() -> None:
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
