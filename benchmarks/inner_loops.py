"""Estimators under other inner optimisers: training through inner Adam, errors of the expansion.

    python benchmarks/inner_loops.py [--jobs 2]     measure, draw, write
    python benchmarks/inner_loops.py --draw         draw and write again from the kept JSON

1. Damping: exact MAML with inner Adam on the sinusoid under five values of Adam's epsilon_root, a
   short run each with a seed of its own, scored on validation tasks. It says why DAMPING is used.
2. Training: MAML, Binom L = 2 and FOMAML with inner Adam, three seeds; every method starts from the
   same weights and sees the same tasks per seed, and all are tested, after the last step, on the
   same 600 tasks.
3. Times of a meta-step, one thread, the methods in turn.
4. Errors: `binomctl error-analysis` at initialisation in float64 under gradient descent, momentum
   and Adam.

Writes benchmarks/results/inner_loops.json and docs/figures/inner_loops.svg, and the tables of
docs/inner-loops.md; with --output elsewhere the JSON alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pages import inserted
from turns import milliseconds

from binomctl.machine.environment import environment
from binomctl.reporting.figures import (
    caption,
    legend_below,
    new_figure,
    over_L,
    save,
    style,
    whiskers,
)
from binomctl.reporting.intervals import MeanCI, mean_ci95
from binomctl.reporting.look import series

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "inner_loops.json"
FIGURE = ROOT / "docs" / "figures" / "inner_loops.svg"
PAGE = ROOT / "docs" / "inner-loops.md"

METHODS: dict[str, dict[str, Any]] = {
    "maml": {"name": "maml"},
    "binom L=2": {"name": "binom", "L": 2},
    "fomaml": {"name": "fomaml"},
}
DAMPING = 1e-4
DAMPINGS = [0.0, 1e-8, 1e-6, 1e-4, 1e-2]
DAMPING_SEED, DAMPING_STEPS = 11, 800
TEST_SEED = 1_000_003
LOOPS: dict[str, dict[str, Any]] = {  # keys of the adaptation section
    "gradient descent": {"optimizer.name": "sgd"},
    "momentum 0.9": {"optimizer.name": "sgd", "optimizer.momentum": 0.9},
    "Adam": {"optimizer.name": "adam", "optimizer.epsilon_root": DAMPING},
    "Adam, epsilon_root = 0": {"optimizer.name": "adam"},
    "Adam, alpha = 0.001": {
        "optimizer.name": "adam",
        "optimizer.epsilon_root": DAMPING,
        "alpha": 0.001,
    },
}


def problem_of(method: str, seed: int, steps: int, damping: float = DAMPING) -> Any:
    import torch

    torch.set_num_threads(1)
    from binomctl.problem.build import build_problem
    from binomctl.settings.layers import load_config

    overrides = {f"estimator.{k}": v for k, v in METHODS[method].items()}
    overrides |= {
        "dataset.name": "sinusoid",
        "adaptation.optimizer.name": "adam",
        "adaptation.optimizer.epsilon_root": damping,
        "seed": seed,
        "training.steps": steps,
        "training.workers": 0,
    }
    return build_problem(load_config(overrides=overrides)[0])


def tested(problem: Any, state: Any, split: str, tasks: int) -> list[float]:
    from binomctl.problem.datasets import evaluation_dataset
    from binomctl.training.evaluate import Trained, evaluate

    config = problem.config
    tests = evaluation_dataset(config, problem.dataset, TEST_SEED)
    theta, m = state.theta.detach(), state.m.detach()
    return list(evaluate(problem, [Trained(theta, m)], tests, split, tasks, config.adaptation.K))


def damped(epsilon_root: float) -> dict[str, Any]:
    """A short run of exact MAML under one damping."""
    import torch

    from binomctl.adapt import adapt_and_validate
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    problem = problem_of("maml", DAMPING_SEED, DAMPING_STEPS, epsilon_root)
    state = MetaState(problem)
    norms, gammas = [], []
    for i in range(8):
        B = problem.config.training.meta_batch
        batch = problem.training_batch(range(i * B, (i + 1) * B))
        how = problem.adaptation(batch, problem.m)
        adapted, _, _ = adapt_and_validate(problem.engine, problem.theta, batch, how, range(how.K))
        rows = problem.estimator.meta_gradient(adapted)[:, : how.layout.d]
        norms += rows.norm(dim=1).tolist()
        gammas.append(adapted.trajectory.gradients.abs().flatten())
    gamma = torch.cat(gammas)
    for _ in meta_train(problem, state):
        pass
    scores = tested(problem, state, "validation", 200)
    return {
        "epsilon_root": epsilon_root,
        "seed": DAMPING_SEED,
        "steps": DAMPING_STEPS,
        "initial_norms": {
            "n": len(norms),
            "median": statistics.median(norms),
            "max": max(norms),
        },
        "inner_gradient": {
            "share_zero": float((gamma == 0).float().mean()),
            "median_of_others": float(gamma[gamma > 0].median()),
        },
        "validation": summary(mean_ci95(scores)),
    }


def measure(job: tuple[str, int, int, int]) -> dict[str, Any]:
    """Train one method with one seed, then test it."""
    from binomctl.problem.build import resolved
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    method, seed, steps, tasks = job
    problem = problem_of(method, seed, steps)
    state = MetaState(problem)
    start = time.perf_counter()
    losses = [step.loss for step in meta_train(problem, state)]
    seconds = time.perf_counter() - start
    return {
        "method": method,
        "seed": seed,
        "config": resolved(problem.config).model_dump(mode="json"),
        "train_seconds": round(seconds, 1),
        "train_loss_last_50": statistics.fmean(losses[-50:]),
        "test_seed": TEST_SEED,
        "mse": [round(v, 5) for v in tested(problem, state, "test", tasks)],
    }


def step_times(rounds: int) -> dict[str, dict[str, float]]:
    """Median, p10 and p90 of a meta-step in ms by method, all methods in turn."""
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    loops = {}
    for method in METHODS:
        problem = problem_of(method, 0, rounds + 5)
        loops[method] = meta_train(problem, MetaState(problem))
    return milliseconds(loops, rounds, 5)


def errors(loop: dict[str, Any], batches: int) -> dict[str, Any]:
    """The report of `binomctl error-analysis` under one inner loop."""
    command = ["error-analysis", "--batches", str(batches), "--json"]
    for key, value in loop.items():
        command += ["--set", f"adaptation.{key}={value}"]
    done = subprocess.run(
        [sys.executable, "-m", "binomctl", *command],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    for e in report["errors"]:
        for name in ("relative", "absolute", "cosine"):
            del e[name]["values"]
    return {"command": "binomctl " + " ".join(command), "report": report}


def summary(found: MeanCI) -> dict[str, float]:
    return {"mean": found.mean, "ci95": found.ci95, "n": found.n}


def paired(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each method's mean over the seeds; its differences to maml and to fomaml, by seed and by test
    task (there the mean over the seeds of each task's differences)."""
    by = {(r["method"], r["seed"]): r["mse"] for r in runs}
    seeds = sorted({r["seed"] for r in runs})
    out: dict[str, Any] = {}
    for method in METHODS:
        means = [statistics.fmean(by[method, s]) for s in seeds]
        out[method] = {"mse": summary(mean_ci95(means)), "by_seed": means}
        for base in ("maml", "fomaml"):
            gaps = [m - statistics.fmean(by[base, s]) for m, s in zip(means, seeds, strict=True)]
            per_task = [
                statistics.fmean(by[method, s][i] - by[base, s][i] for s in seeds)
                for i in range(len(by[method, seeds[0]]))
            ]
            out[method][f"minus_{base}_by_seed"] = summary(mean_ci95(gaps))
            out[method][f"minus_{base}_by_task"] = summary(mean_ci95(per_task))
    return out


def draw(kept: dict[str, Any]) -> None:
    """Relative error against L, Binom and Trunc side by side, a curve for every inner loop."""
    loops = kept["errors"]
    figure = new_figure(8.4, 4.2)
    grid = figure.subplots(1, 2, sharey=True)
    for axes, estimator in zip(grid, ("binom", "trunc"), strict=True):
        for i, (name, one) in enumerate(loops.items()):
            found = [e for e in one["report"]["errors"] if e["estimator"] == estimator]
            points = [(e["L"], e["relative"]) for e in found if e["relative"]["mean"]]
            axes.errorbar(
                [L for L, _ in points],
                [v["mean"] for _, v in points],
                yerr=whiskers([v for _, v in points]),
                capsize=2,
                label=name,
                **series(i),
            )
        over_L(axes)
        left = axes is grid[0]
        style(axes, estimator, "L", "|estimate - exact| / |exact|" if left else "")
    config = next(iter(loops.values()))["report"]["config"]
    n, tasks = config["analysis"]["batches"], config["training"]["meta_batch"]
    caption(
        figure,
        f"sinusoid, K = {config['adaptation']['K']}, alpha = {config['adaptation']['alpha']:g}"
        f" unless said, {config['dtype']}, at initialisation; mean and 95% CI,"
        f" n = {n} batches of {tasks} tasks",
    )
    legend_below(figure, grid)
    save(figure, FIGURE)


def tables(kept: dict[str, Any]) -> dict[str, str]:
    """The tables of docs/inner-loops.md by name, in Markdown."""
    damping = [
        "| epsilon_root | validation mse (95% CI over tasks) | meta-gradient norms: median, max |",
        "|---|---|---|",
    ]
    for d in kept["damping"]:
        v, norms = d["validation"], d["initial_norms"]
        sizes = f"{norms['median']:.1f}, {norms['max']:.0f}"
        damping.append(f"| {d['epsilon_root']:g} | {_range(v)} | {sizes} |")
    training = [
        "| estimator | test mse (95% CI over seeds) | minus maml, paired by seed"
        " | minus maml, paired by task | ms per step (p10 to p90) |",
        "|---|---|---|---|---|",
    ]
    for method, p in kept["paired"].items():
        t = kept["step_times"][method]
        gaps = [_range(p[f"minus_maml_by_{k}"], "+") for k in ("seed", "task")]
        gaps = ["-", "-"] if method == "maml" else gaps
        times = f"{t['median_ms']:.1f} ({t['p10_ms']:.1f} to {t['p90_ms']:.1f})"
        training.append(f"| {method} | {_range(p['mse'])} | {gaps[0]} | {gaps[1]} | {times} |")
    errors = [
        "| inner loop | L = 0 (fomaml) | binom 1 | 2 | 3 | 4 | trunc 1 | 2 | 3 | 4 |",
        "|---|" + "---|" * 9,
    ]
    for name, one in kept["errors"].items():
        by = {(e["estimator"], e["L"]): e["relative"]["mean"] for e in one["report"]["errors"]}
        cells = [by["fomaml", None], *(by[e, L] for e in ("binom", "trunc") for L in range(1, 5))]
        errors.append(f"| {name} | " + " | ".join(f"{v:.2g}" for v in cells) + " |")
    named = {"damping": damping, "training": training, "errors": errors}
    return {name: "\n".join(lines) for name, lines in named.items()}


def page(text: str, kept: dict[str, Any]) -> str:
    """docs/inner-loops.md with its tables renewed."""
    for name, table in tables(kept).items():
        text = inserted(text, name, table)
    return text


def _range(v: dict[str, float], sign: str = "") -> str:
    low, high = v["mean"] - v["ci95"], v["mean"] + v["ci95"]
    return f"{v['mean']:{sign}.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args()
    if args.draw:
        kept = json.loads(args.output.read_text())
        kept["paired"] = paired(kept["runs"])
    else:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        jobs = [(m, s, args.steps, args.tasks) for s in args.seeds for m in METHODS]
        with multiprocessing.get_context("spawn").Pool(args.jobs, maxtasksperchild=1) as pool:
            kept = {"schema": "binomctl/inner-loops/1", "environment": environment()}
            kept["step_times"] = pool.apply(step_times, (args.rounds,))
            kept["errors"] = {name: errors(loop, args.batches) for name, loop in LOOPS.items()}
            kept["damping"] = pool.map(damped, DAMPINGS)
            runs = []
            for run in pool.imap(measure, jobs):
                runs.append(run)
                found = mean_ci95(run["mse"])
                print(run["method"], run["seed"], found.plain(), run["train_seconds"], flush=True)
        kept |= {"paired": paired(runs), "runs": runs}
    args.output.write_text(dumps(kept))
    if args.output != RESULT:
        return
    draw(kept)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


def dumps(kept: dict[str, Any]) -> str:
    """JSON, a line for every run and every loop."""
    parts = []
    for key, value in kept.items():
        if key == "runs":
            inner = ",\n".join("  " + json.dumps(v) for v in value)
            parts.append(f" {json.dumps(key)}: [\n{inner}\n ]")
        elif key == "errors":
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
