"""Every estimator under every adaptation rule: accuracy at equal steps and at equal seconds.

    python benchmarks/grid.py glyphs|sinusoid [--seeds 0 1 2] [--jobs 2]
    python benchmarks/grid.py --table             rewrite docs/comparison.md from the kept JSON

First every method's step is timed, interleaved, in one process with one op thread, on an
otherwise idle machine; maml under gradient descent sets the budget of seconds. Then every method
trains from the same weights on the same tasks, and is tested after the number of steps that maml
takes and after the number it can take in maml's seconds. Writes
benchmarks/results/grid_<dataset>.json after every run and goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from pathlib import Path
from typing import Any

from cells import dumps, tested
from pages import put
from turns import milliseconds

from binomctl.machine.environment import environment
from binomctl.reporting.intervals import MeanCI, mean_ci95

HERE = Path(__file__).parent
EXPANSIONS: dict[str, dict[str, Any]] = {
    "maml": {"name": "maml"},
    "binom L=2": {"name": "binom", "L": 2},
    "binom L=2, alpha'=L alpha/K": {"name": "binom", "L": 2, "alpha_scaling": "paper"},
    "hybrid L=2, C=3": {"name": "hybrid", "L": 2, "C": 3},
    "trunc L=2": {"name": "trunc", "L": 2},
    "fomaml": {"name": "fomaml"},
}
PLAIN: dict[str, dict[str, Any]] = {
    "imaml L=5": {"name": "imaml", "L": 5},
    "neumann L=5": {"name": "neumann", "L": 5},
    "reptile": {"name": "reptile"},
}
RULES = ["gd", "anil", "meta-sgd", "meta-curvature"]
METHODS = [(m, r) for r in RULES for m in EXPANSIONS] + [(m, "gd") for m in PLAIN]
SETTINGS: dict[str, dict[str, Any]] = {
    "glyphs": {"dataset.name": "glyphs", "model.filters": 16, "training.steps": 120},
    "sinusoid": {"dataset.name": "sinusoid", "training.steps": 1000},
}
TASKS = {"glyphs": 200, "sinusoid": 600}
TEST_SEED = 1_000_003


def problem_of(dataset: str, method: tuple[str, str], seed: int, steps: int | None = None) -> Any:
    import torch

    torch.set_num_threads(1)
    from binomctl.problem.build import build_problem
    from binomctl.settings.layers import load_config

    estimator = {**EXPANSIONS, **PLAIN}[method[0]]
    overrides = {f"estimator.{k}": v for k, v in estimator.items()}
    overrides |= {"rule.name": method[1], "seed": seed, **SETTINGS[dataset]}
    if steps is not None:
        overrides["training.steps"] = steps
    return build_problem(load_config(overrides=overrides)[0])


def step_times(dataset: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median, p10 and p90 of a meta-step in ms by method, all methods in turn."""
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    loops = {}
    for method in METHODS:
        problem = problem_of(dataset, method, 0, rounds + 2)
        loops[method] = meta_train(problem, MetaState(problem))
    found = milliseconds(loops, rounds, 2)
    return {" | ".join(method): row for method, row in found.items()}


def measure(job: tuple[str, tuple[str, str], int, int, int]) -> dict[str, Any]:
    """Train one method with one seed, test it at two numbers of steps."""
    from binomctl.problem.build import resolved
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    dataset, method, seed, equal_steps, affordable = job
    problem = problem_of(dataset, method, seed, max(equal_steps, affordable))
    config, state = problem.config, MetaState(problem)
    K = config.evaluation.steps or config.adaptation.K
    found = tested(problem, state, meta_train(problem, state), (equal_steps, affordable),
                   (TEST_SEED, TASKS[dataset], K))  # fmt: skip
    return {
        "method": method[0],
        "rule": method[1],
        "seed": seed,
        "config": resolved(config).model_dump(mode="json"),
        "test_seed": TEST_SEED,
        "tests": found.pop("scores"),
        **found,
    }


def train(dataset: str, seeds: list[int], jobs: int, rounds: int) -> None:
    path = HERE / "results" / f"grid_{dataset}.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if not kept:
        kept = {
            "schema": "binomctl/grid/1",
            "environment": environment(),
            "dataset": dataset,
            "settings": SETTINGS[dataset],
            "step_times": step_times(dataset, rounds),
            "runs": [],
        }
    times = {k: v["median_ms"] for k, v in kept["step_times"].items()}
    equal = SETTINGS[dataset]["training.steps"]
    have = {(r["method"], r["rule"], r["seed"]) for r in kept["runs"]}
    todo = [
        (dataset, m, s, equal, max(1, round(equal * times["maml | gd"] / times[" | ".join(m)])))
        for s in seeds
        for m in METHODS
        if (*m, s) not in have
    ]
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        for run in pool.imap_unordered(measure, todo):
            kept["runs"].append(run)
            kept["runs"].sort(key=lambda r: (r["seed"], METHODS.index((r["method"], r["rule"]))))
            path.write_text(dumps(kept))
            means = {k: round(statistics.fmean(v), 4) for k, v in run["tests"].items()}
            print(
                run["method"], run["rule"], run["seed"], means, run.get("failure", ""), flush=True
            )


def table(dataset: str) -> str:
    """Markdown, a row for every method."""
    kept = json.loads((HERE / "results" / f"grid_{dataset}.json").read_text())
    accuracy = dataset == "glyphs"
    equal = kept["settings"]["training.steps"]
    runs = {(r["method"], r["rule"], r["seed"]): r for r in kept["runs"]}
    seeds = sorted({seed for *_, seed in runs})
    what = "accuracy" if accuracy else "mse"
    lines = [
        f"| rule | estimator | ms per step | {what} after {equal} steps | minus maml, same rule |"
        f" steps in maml's seconds | {what} | minus maml under gd |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def cells(method: str, rule: str, at: str, base: tuple[str, str, str]) -> tuple[str, str]:
        own = [mean_of(runs[method, rule, s], at) for s in seeds]
        other = [mean_of(runs[base[0], base[1], s], base[2]) for s in seeds]
        if None in own:
            return "not finite", "-"
        gaps = [a - b for a, b in zip(own, other, strict=True) if a is not None and b is not None]
        same = (method, rule, at) == base
        return worded(mean_ci95(own), accuracy), (  # type: ignore[arg-type]
            "-" if same else worded(mean_ci95(gaps), accuracy, sign=True)
        )

    for method, rule in METHODS:
        speed = kept["step_times"][f"{method} | {rule}"]["median_ms"]
        affordable = round(equal * kept["step_times"]["maml | gd"]["median_ms"] / speed)
        if any((method, rule, s) not in runs for s in seeds):
            continue
        first = cells(method, rule, str(equal), ("maml", rule, str(equal)))
        second = cells(method, rule, str(max(1, affordable)), ("maml", "gd", str(equal)))
        row = [rule, method, f"{speed:.0f}", *first, str(affordable), *second]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def mean_of(run: dict[str, Any], at: str) -> float | None:
    return statistics.fmean(run["tests"][at]) if at in run["tests"] else None


def worded(value: MeanCI, accuracy: bool, sign: bool = False) -> str:
    low, high = value.mean - value.ci95, value.mean + value.ci95
    if accuracy:
        plus = "+" if sign else ""
        unit = "" if sign else "%"
        return f"{100 * value.mean:{plus}.1f}{unit} ({100 * low:.1f} to {100 * high:.1f})"
    plus = "+" if sign else ""
    if abs(value.mean) >= 100:
        return f"diverged ({value.mean:.1e})"
    return f"{value.mean:{plus}.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", nargs="?", choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.dataset:
        train(args.dataset, args.seeds, args.jobs, args.rounds)
    if args.table:
        page = HERE.parent / "docs" / "comparison.md"
        for dataset in SETTINGS:
            put(page, dataset, table(dataset))


if __name__ == "__main__":
    main()
