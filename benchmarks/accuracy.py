"""Test accuracy of the estimators on glyphs at equal meta-steps, paired against exact MAML.

    python benchmarks/accuracy.py [--steps 400] [--seeds 0 1 2] [--jobs 2]

Every method starts from the same weights and sees the same training tasks per seed; all are
tested, after the last step, on the same 600 tasks. Writes benchmarks/results/accuracy_glyphs.json,
adding to what it holds already under the same settings, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

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
}
TEST_SEED = 1_000_003
RESULT = Path(__file__).parent / "results" / "accuracy_glyphs.json"


def measure(job: tuple[str, int, int, int]) -> dict[str, Any]:
    """Train one method with one seed and test it; one op thread, so that jobs share the cores."""
    import torch

    torch.set_num_threads(1)
    from binomctl.problem.build import build_problem, resolved
    from binomctl.problem.datasets import evaluation_dataset
    from binomctl.settings.layers import load_config
    from binomctl.training.evaluate import evaluate
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    method, seed, steps, tasks = job
    overrides = {f"estimator.{k}": v for k, v in METHODS[method].items()}
    config, _ = load_config(overrides={**overrides, "seed": seed, "training.steps": steps})
    problem = build_problem(config)
    state = MetaState(problem)
    start = time.perf_counter()
    losses = [step.loss for step in meta_train(problem, state)]
    seconds = time.perf_counter() - start
    dataset = evaluation_dataset(config, problem.dataset, TEST_SEED)
    K = config.evaluation.steps or config.adaptation.K
    scores = evaluate(problem, state.theta.detach(), state.m.detach(), dataset, "test", tasks, K)
    return {
        "method": method,
        "seed": seed,
        "config": resolved(config).model_dump(mode="json"),
        "train_seconds": round(seconds, 1),
        "train_loss_last_50": sum(losses[-50:]) / len(losses[-50:]),
        "test_seed": TEST_SEED,
        "accuracies": [round(s, 4) for s in scores],
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: mean over seeds with t-intervals, and the paired difference to maml."""
    means = {(r["method"], r["seed"]): sum(r["accuracies"]) / len(r["accuracies"]) for r in runs}
    seeds = sorted({s for _, s in means})
    n = len(runs[0]["accuracies"])
    lines = [
        f"| method | test accuracy, mean of {len(seeds)} seeds (95% CI over seeds)"
        " | minus maml, paired by seed (95% CI) |",
        "|---|---|---|",
    ]
    for method in METHODS:
        values = [means[method, s] for s in seeds if (method, s) in means]
        if len(values) < len(seeds):
            continue
        mean = mean_ci95(values)
        gap = mean_ci95([means[method, s] - means["maml", s] for s in seeds])
        cell = "-" if method == "maml" else f"{100 * gap.mean:+.1f} ({_range(gap)})"
        lines.append(f"| {method} | {100 * mean.mean:.1f}% ({_range(mean)}) | {cell} |")
    lines.append("")
    lines.append(f"n = {n} test tasks per seed, the same for every method; Student t intervals.")
    return "\n".join(lines)


def _range(value: Any) -> str:
    return f"{100 * (value.mean - value.ci95):.1f} to {100 * (value.mean + value.ci95):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args()

    runs: list[dict[str, Any]] = []
    if args.output.exists():
        runs = json.loads(args.output.read_text())["runs"]
        runs = [r for r in runs if r["config"]["training"]["steps"] == args.steps]
    have = {(r["method"], r["seed"]) for r in runs}
    jobs = [
        (m, s, args.steps, args.tasks) for s in args.seeds for m in METHODS if (m, s) not in have
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
    print(table(runs))


if __name__ == "__main__":
    main()
