"""Test accuracy of the estimators on glyphs at equal meta-steps, paired against exact MAML.

    python benchmarks/accuracy.py [--steps 400] [--seeds 0 1 2] [--jobs 2] [--K 5] [--only NAME ...]
                                  [--equal-seconds | --page]

Every method starts from the same weights and sees the same training tasks per seed; all are
tested, after the last step, on the same 600 tasks. Writes benchmarks/results/accuracy_glyphs.json
(accuracy_glyphs_K20.json for --K 20), adding to what it holds already under the same settings, and
the tables into docs/beyond.md. --equal-seconds gives every method as many meta-steps as fit into
the seconds that exact MAML took in the kept result at equal steps (accuracy_glyphs_seconds.json).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

from pages import put

from binomctl.machine.environment import environment
from binomctl.reporting.intervals import mean_ci95

METHODS: dict[str, dict[str, Any]] = {
    "maml": {"name": "maml"},
    "binom L=1": {"name": "binom", "L": 1},
    "binom L=2": {"name": "binom", "L": 2},
    "binom L=3": {"name": "binom", "L": 3},
    "binom L=2, alpha'=L alpha/K": {"name": "binom", "L": 2, "alpha_scaling": "paper"},
    "trunc L=1": {"name": "trunc", "L": 1},
    "trunc L=2": {"name": "trunc", "L": 2},
    "trunc L=3": {"name": "trunc", "L": 3},
    "fomaml": {"name": "fomaml"},
    "head m=2": {"name": "head", "m": 2},
    "head m=3": {"name": "head", "m": 3},
    "trunc L=5": {"name": "trunc", "L": 5},
    "head m=5": {"name": "head", "m": 5},
    "head m=3, L=1": {"name": "head", "m": 3, "L": 1},
    "calibrated L=2": {"name": "calibrated", "L": 2},
    "krylov 2 x 2": {"name": "krylov", "segments": 2, "s": 2},
    "deflated r=2, L=1": {"name": "deflated", "r": 2, "L": 1},
    "auto 0.1": {"name": "auto", "tolerance": 0.1},
    "auto, 2 products": {"name": "auto", "products": 2},
}
TEST_SEED = 1_000_003
PAGE = Path(__file__).parents[1] / "docs/beyond.md"
RESULT = Path(__file__).parent / "results" / "accuracy_glyphs.json"


def measure(job: tuple[str, int, int, int, int]) -> dict[str, Any]:
    """Train one method with one seed and test it; one op thread, so that jobs share the cores."""
    import torch

    torch.set_num_threads(1)
    from binomctl.problem.build import build_problem, resolved
    from binomctl.problem.datasets import evaluation_dataset
    from binomctl.settings.layers import load_config
    from binomctl.training.evaluate import Trained, evaluate
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    method, seed, steps, tasks, K = job
    overrides = {f"estimator.{k}": v for k, v in METHODS[method].items()}
    overrides |= {"seed": seed, "training.steps": steps, "adaptation.K": K}
    config, _ = load_config(overrides=overrides)
    problem = build_problem(config)
    state = MetaState(problem)
    start = time.perf_counter()
    losses = [step.loss for step in meta_train(problem, state)]
    seconds = time.perf_counter() - start
    dataset = evaluation_dataset(config, problem.dataset, TEST_SEED)
    K = max(config.evaluation.steps or K, K)
    scores = evaluate(problem, [Trained(state.theta.detach(), state.m.detach())], dataset, "test",
                      tasks, K)  # fmt: skip
    return {
        "method": method,
        "seed": seed,
        "config": resolved(config).model_dump(mode="json"),
        "train_seconds": round(seconds, 1),
        "train_loss_last_50": sum(losses[-50:]) / len(losses[-50:]),
        "test_seed": TEST_SEED,
        "accuracies": [round(s, 4) for s in scores],
    }


def equal_seconds(runs: list[dict[str, Any]], methods: list[str]) -> dict[str, int]:
    """Meta-steps of each method in the mean seconds of exact MAML's, from runs of equal steps."""

    def a_step(method: str) -> float:
        mine = [r for r in runs if r["method"] == method]
        return sum(r["train_seconds"] / r["config"]["training"]["steps"] for r in mine) / len(mine)

    whole = runs[0]["config"]["training"]["steps"] * a_step("maml")
    return {method: round(whole / a_step(method)) for method in methods}


def page() -> None:
    """The tables of docs/beyond.md, from the kept results."""
    put(PAGE, "accuracy", all_tables())


def all_tables() -> str:
    tables = []
    for path in sorted(RESULT.parent.glob(f"{RESULT.stem}*.json")):
        equal = "seconds" if path.stem.endswith("_seconds") else "meta-steps"
        tables.append(table(json.loads(path.read_text())["runs"], equal))
    return "\n\n".join(tables)


def table(runs: list[dict[str, Any]], equal: str) -> str:
    """Markdown: mean over seeds with t-intervals, and the paired difference to maml."""
    means = {(r["method"], r["seed"]): sum(r["accuracies"]) / len(r["accuracies"]) for r in runs}
    seeds = sorted({s for _, s in means})
    n = len(runs[0]["accuracies"])
    lines = [
        f"| method | test accuracy, mean of {len(seeds)} seeds (95% CI over seeds)"
        " | minus maml, paired by seed (95% CI) | meta-steps | training seconds, mean |",
        "|---|---|---|---|---|",
    ]
    for method in METHODS:
        values = [means[method, s] for s in seeds if (method, s) in means]
        if len(values) < len(seeds):
            continue
        mean = mean_ci95(values)
        gap = mean_ci95([means[method, s] - means["maml", s] for s in seeds])
        cell = "-" if method == "maml" else f"{100 * gap.mean:+.1f} ({_range(gap)})"
        mine = [r for r in runs if r["method"] == method]
        seconds = f"{sum(r['train_seconds'] for r in mine) / len(mine):.0f}"
        steps = mine[0]["config"]["training"]["steps"]
        value = f"{100 * mean.mean:.1f}% ({_range(mean)})"
        lines.append(f"| {method} | {value} | {cell} | {steps} | {seconds} |")
    lines.append("")
    K = runs[0]["config"]["adaptation"]["K"]
    lines.append(
        f"glyphs, 5-way 1-shot, K = {K}, at equal {equal}; n = {n} test tasks per seed, the same"
        " for every method; Student t intervals; one thread, two runs at a time."
    )
    return "\n".join(lines)


def _range(value: Any) -> str:
    return f"{100 * (value.mean - value.ci95):.1f} to {100 * (value.mean + value.ci95):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--K", type=int, default=5)
    parser.add_argument("--equal-seconds", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--page", action="store_true", help="the tables alone")
    args = parser.parse_args()
    if args.page:
        page()
        return
    args.output = RESULT if args.K == 5 else RESULT.with_stem(f"{RESULT.stem}_K{args.K}")
    steps = dict.fromkeys(args.only, args.steps)
    if args.equal_seconds:
        steps = equal_seconds(json.loads(args.output.read_text())["runs"], args.only)
        args.output = args.output.with_stem(f"{args.output.stem}_seconds")

    runs: list[dict[str, Any]] = []
    if args.output.exists():
        runs = json.loads(args.output.read_text())["runs"]
        runs = [
            r for r in runs
            if r["config"]["training"]["steps"] == steps.get(r["method"], args.steps)
        ]  # fmt: skip
    have = {(r["method"], r["seed"]) for r in runs}
    jobs = [
        (m, s, steps[m], args.tasks, args.K)
        for s in args.seeds
        for m in args.only
        if (m, s) not in have
    ]
    with multiprocessing.get_context("spawn").Pool(args.jobs, maxtasksperchild=1) as pool:
        for run in pool.imap_unordered(measure, jobs):
            runs.append(run)
            mean = mean_ci95(run["accuracies"])
            print(
                run["method"], run["seed"], mean.percent(), f"{run['train_seconds']} s", flush=True
            )
            runs.sort(key=lambda r: (r["seed"], list(METHODS).index(r["method"])))
            args.output.parent.mkdir(exist_ok=True)
            args.output.write_text(
                json.dumps(
                    {"schema": "binomctl/accuracy/1", "environment": environment(), "runs": runs},
                    indent=1,
                )
                + "\n"
            )
    page()


if __name__ == "__main__":
    main()
