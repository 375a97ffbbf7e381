"""How near estimators come to the exact meta-gradient for their products, depth and seconds.

    python benchmarks/beyond.py [WORKLOAD ...] [--jobs 2]    sinusoid glyphs resnet12 transformer
    python benchmarks/beyond.py --page    tables and pictures, from the last result

Every workload at its initial weights and after training by exact MAML, over K and alpha; float64
(resnet12: float32). Relative errors per task; medians with 95% intervals by order statistics.
Weights that are fitted are fitted on other tasks than they are judged by. Products are counted, not
computed from formulas; seconds are a whole meta-gradient of one batch, the estimators by turns.
Writes benchmarks/results/beyond.json, docs/figures/beyond-*.svg and the tables of docs/beyond.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

from beyond_page import write_page

from binomctl.machine.environment import environment

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/beyond.json"
TASKS = {"sinusoid": 16, "glyphs": 8, "resnet12": 4, "transformer": 8}
GRID: dict[str, list[tuple[int, float]]] = {
    "sinusoid": [(K, a) for K in (5, 10, 20, 50, 100) for a in (0.001, 0.01, 0.05, 0.1)],
    "glyphs": [(5, 0.01), (5, 0.1), (10, 0.1), (20, 0.1)],
    "resnet12": [(5, 0.01), (5, 0.1)],
    "transformer": [(K, a) for K in (5, 20) for a in (0.01, 0.1)],
}
STEPS = {"sinusoid": 500, "glyphs": 150, "resnet12": 0, "transformer": 150}
TIMED = {("sinusoid", 5, 0.01), ("sinusoid", 20, 0.01), ("glyphs", 5, 0.1), ("glyphs", 20, 0.1)}


def candidates(K: int) -> list[tuple[str, dict[str, Any]]]:
    """Estimators and options whose products do not exceed twice those of exact MAML by far."""
    out: list[tuple[str, dict[str, Any]]] = [("maml", {}), ("fomaml", {}), ("unbiased", {})]
    orders = [L for L in (1, 2, 3, 5, 10) if L < K]
    out += [("trunc", {"L": L}) for L in orders]
    out += [("binom", {"L": L}) for L in (1, 2, 3)]
    out += [("binom", {"L": L, "alpha_scaling": "paper"}) for L in (1, 2, 3)]
    out += [("hybrid", {"L": 1, "C": C}) for C in (3,) if C < K]
    out += [("neumann", {"L": L}) for L in (3,)]
    out += [("head", {"m": m}) for m in (1, 2, 3, 4, 5, 7, 10) if m < K]
    out += [("head", {"m": m, "L": L}) for m in (2, 3, 4, 5) for L in (1, 2) if m + L < K]
    out += [("minimax", {"L": L}) for L in (1, 2, 3)]
    out += [("calibrated", {"L": L}) for L in (1, 2, 3)]
    out += [("calibrated", {"L": 2, "groups": "layers"})]
    for r in (1, 2, 3, 5, 8):
        if r < K:
            out += [("deflated", {"r": r, "L": L}) for L in (0, 1, 2)]
            out += [("deflated", {"r": r, "L": L, "q": q}) for L in (1, 2) for q in (5, 9)
                    if q < K]  # fmt: skip
    out += [("deflated", {"r": 3, "L": 1, "segments": 2})]
    out += [("krylov", {"segments": S, "s": s}) for S in (1, 2, 3, 4, 5, 7, 10) for s in (2, 3, 4)
            if S < K and S * s <= 1.5 * K]  # fmt: skip
    out += [("auto", {"tolerance": 0.05})]
    return out


def problem_of(workload: str, K: int, alpha: float, steps: int) -> Any:
    from binomctl.problem.build import build_problem
    from binomctl.settings.layers import load_config

    given: dict[str, Any] = {
        "adaptation.K": K, "adaptation.alpha": alpha, "estimator.name": "maml",
        "training.meta_batch": 4, "dtype": "float64", "training.steps": max(steps, 1),
        "dataset.name": "sinusoid" if workload == "sinusoid" else "glyphs",
    }  # fmt: skip
    assign: list[str] = []
    if workload != "sinusoid":
        given["engine.convolution"] = "blocks"
    if workload == "resnet12":
        given |= {"model.name": "resnet12", "dtype": "float32"}
        assign = ["model.filters=[16,32,64,128]"]
    if workload == "transformer":
        given.pop("engine.convolution")
        assign = ["model.import=networks:Patches"]
    config, _ = load_config(overrides=given, assignments=assign)
    return build_problem(config)


def trained(workload: str, phase: str) -> Any:
    """theta of a workload: as it starts, or after exact MAML with K = 5 at its own alpha."""
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    steps = STEPS[workload] if phase == "trained" else 0
    problem = problem_of(workload, 5, 0.01 if workload == "sinusoid" else 0.1, steps)
    state = MetaState(problem)
    if steps:
        for _ in meta_train(problem, state):
            pass
    return state.theta.detach()


class Counting:
    """A curvature that counts products and the calls they came in."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.order = inner, inner.order
        self.products = 0

    def gradient(self, phi: Any, k: int, keep: bool) -> Any:
        return self._inner.gradient(phi, k, keep)

    def place(self, k: int, phi: Any) -> None:
        self._inner.place(k, phi)

    def hvp(self, ks: Any, V: Any) -> Any:
        self.products += len(ks)
        return self._inner.hvp(ks, V)


def depth(name: str, options: dict[str, Any], K: int) -> int:
    """Products in sequence, where those of one level run side by side."""
    if name in ("maml", "auto", "unbiased"):
        return K
    if name == "krylov":
        return int(options["segments"] * options["s"])
    L = options.get("L", 1 if name == "deflated" else 0)
    return int(L + options.get("m", 0) + options.get("r", 0) * (name == "deflated"))


def measure(job: tuple[str, str]) -> list[dict[str, Any]]:
    """All settings of a workload in a phase."""
    import torch

    torch.set_num_threads(1)
    workload, phase = job
    theta, rows = trained(workload, phase), []
    for K, alpha in GRID[workload]:
        if phase == "trained" and workload == "sinusoid" and K in (10, 50):
            continue
        rows.append(setting(workload, phase, theta, K, alpha))
        print(workload, phase, K, alpha, flush=True)
    return rows


def setting(workload: str, phase: str, theta: Any, K: int, alpha: float) -> dict[str, Any]:
    """Errors of every estimator at one K and alpha."""
    import torch

    from binomctl.adapt import adapt_and_validate
    from binomctl.contracts import Expansion, Remembers
    from binomctl.errors import BinomctlError
    from binomctl.expansion import binomial_expansion
    from binomctl.settings import registry

    problem = problem_of(workload, K, alpha, 0)
    theta = theta.to(problem.theta)
    made = {}
    for name, options in candidates(K):
        try:
            estimator = registry.create("estimator", name, options)
            estimator.steps(K)
        except BinomctlError:
            continue  # more than K allows
        made[json.dumps([name, options])] = estimator
    found: dict[str, dict[str, Any]] = {
        label: {"errors": [], "products": 0, "refused": ""} for label in made
    }
    curvature: list[float] = []
    memory: dict[str, Any] = {}
    for i in range(
        -1, TASKS[workload] // 4
    ):  # the batch before the first: weights are fitted on it
        batch = problem.training_batch(range(10_000 + 4 * (i + 1), 10_004 + 4 * (i + 1)))
        how = problem.adaptation(batch, problem.m)
        adapted, _, _ = adapt_and_validate(problem.engine, theta, batch, how, range(K + 1))
        exact = binomial_expansion(adapted, Expansion(K, K, adapted.alpha))
        size = exact.norm(dim=1)
        if i >= 0:
            g = adapted.g.unsqueeze(1).expand(-1, K, -1)
            products = adapted.alpha * adapted.hvp(range(K), g).norm(dim=-1)
            curvature.append((products / adapted.g.norm(dim=1)[:, None]).mean(0).tolist())
        for label, estimator in made.items():
            counting = Counting(adapted.curvature)
            seen = dataclasses.replace(adapted, curvature=counting)
            row = found[label]
            try:
                if isinstance(estimator, Remembers):
                    state = memory.get(label) or estimator.init_state(how.layout)
                    rows, after = estimator.advance(seen, state)
                    memory[label] = after
                elif i < 0:
                    continue
                else:
                    rows = estimator.meta_gradient(seen)
            except BinomctlError as error:
                row["refused"] = str(error)
                continue
            if i >= 0:
                row["errors"] += ((rows - exact).norm(dim=1) / size).tolist()
                row["products"] = max(row["products"], counting.products)
    times = timed(problem, theta, made) if (workload, K, alpha) in TIMED else {}
    out = []
    for label, row in found.items():
        name, options = json.loads(label)
        errors = [e for e in row["errors"] if e == e]
        out.append(
            {"estimator": name, "options": options, "products": row["products"],
             "depth": depth(name, options, K), "seconds": times.get(label),
             "refused": row["refused"], **summary(errors)}
        )  # fmt: skip
    middle = torch.tensor(curvature).mean(0).tolist()
    return {"workload": workload, "phase": phase, "K": K, "alpha": alpha,
            "tasks": TASKS[workload], "alpha_Hg_over_g": middle, "estimators": out}  # fmt: skip


def summary(errors: list[float]) -> dict[str, Any]:
    """Median with its 95% interval by order statistics (binomial), and the mean."""
    from scipy.stats import binom

    if not errors:
        return {"median": None, "ci95": None, "mean": None, "n": 0}
    ordered, n = sorted(errors), len(errors)
    low = int(binom.ppf(0.025, n, 0.5))
    high = min(int(binom.ppf(0.975, n, 0.5)), n - 1)
    return {"median": statistics.median(ordered), "ci95": [ordered[low], ordered[high]],
            "mean": statistics.fmean(ordered), "n": n}  # fmt: skip


def timed(problem: Any, theta: Any, made: dict[str, Any]) -> dict[str, float]:
    """Median seconds of a whole meta-gradient, the estimators by turns, three rounds after one."""
    from binomctl.adapt import adapt_and_validate
    from binomctl.contracts import Remembers

    batch = problem.training_batch(range(4))
    how = problem.adaptation(batch, problem.m)
    seconds: dict[str, list[float]] = {label: [] for label in made}
    memory: dict[str, Any] = {}
    for _ in range(4):
        for label, estimator in made.items():
            start = time.perf_counter()
            adapted, _, _ = adapt_and_validate(
                problem.engine, theta, batch, how, estimator.steps(how.K)
            )
            if isinstance(estimator, Remembers):
                state = memory.get(label) or estimator.init_state(how.layout)
                _, memory[label] = estimator.advance(adapted, state)
            else:
                estimator.meta_gradient(adapted)
            seconds[label].append(time.perf_counter() - start)
    return {label: statistics.median(times[1:]) for label, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    report = json.loads(RESULT.read_text()) if RESULT.exists() else {"settings": []}
    if not args.page:
        wanted = args.workloads or list(GRID)
        jobs = [(w, p) for w in wanted for p in ("initial", "trained")
                if p == "initial" or STEPS[w]]  # fmt: skip
        kept = [s for s in report["settings"] if s["workload"] not in wanted]
        with multiprocessing.get_context("spawn").Pool(args.jobs, maxtasksperchild=1) as pool:
            for rows in pool.imap_unordered(measure, jobs):
                kept += rows
                kept.sort(key=lambda s: (list(GRID).index(s["workload"]), s["phase"], s["K"],
                                         s["alpha"]))  # fmt: skip
                report = {"schema": "binomctl/beyond/1", "environment": environment(),
                          "steps": STEPS, "settings": kept}  # fmt: skip
                RESULT.write_text(json.dumps(report, indent=1) + "\n")
    write_page(report)


if __name__ == "__main__":
    main()
