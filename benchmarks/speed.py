"""Meta-steps of binomctl against learn2learn's and torch.func's, and their share of the floor.

    python benchmarks/speed.py [--rounds 3]

Every workload runs in worker processes, with glibc's allocator as it is and tuned in turn
(binomctl/allocator.py); within a worker all contestants run in turn, round after round, on the same
model, weights and random data. A step is everything from the parameters to the meta-gradient. The
floor is the work (convolutions and matrix products, formulas below) at the rate of a 1024 x 1024
sgemm measured in the same worker. Writes benchmarks/results/speed.json, docs/speed.md's table and
docs/figures/speed.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.nn import functional as F

from binomctl import registry
from binomctl.adapt import adapt_and_validate, estimate
from binomctl.allocator import tune_allocator
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.environment import environment
from binomctl.episodes import EpisodeBatch
from binomctl.flat import Layout, initial_parameters
from binomctl.images.learn2learn import load as load_learn2learn
from binomctl.models import build_model
from binomctl.problem import LARGE
from binomctl.profiling import peak_allocated

ROOT = Path(__file__).parents[1]
RESULT, FIGURE = ROOT / "benchmarks/results/speed.json", ROOT / "docs/figures/speed.svg"
PAGE = ROOT / "docs/speed.md"
BEGIN, END = "<!-- table: begin (benchmarks/speed.py) -->", "<!-- table: end -->"
K, L = 5, 2
WORKLOADS: dict[str, dict[str, Any]] = {
    "sinusoid MLP, B = 25": {"model": "mlp", "shape": (1,), "B": 25, "alpha": 0.01},
    "Conv4-32 28x28x1, 1-shot": {"model": "conv4", "shape": (1, 28, 28), "shots": 1},
    "Conv4-32 28x28x1, 5-shot": {"model": "conv4", "shape": (1, 28, 28), "shots": 5},
    "Conv4-32 84x84x3, 1-shot": {
        "model": "conv4", "shape": (3, 84, 84), "shots": 1, "rounds": 2,
    },
    "Conv4-32 84x84x3, 5-shot": {
        "model": "conv4", "shape": (3, 84, 84), "shots": 5, "rounds": 2,
        "without": ["vmap", "torch.func"],  # which need more than 24 GiB here
    },
    "ResNet12 (16, 40, 80, 160) 84x84x3, 1-shot, B = 1, 5 queries": {
        "model": "resnet12", "options": {"filters": (16, 40, 80, 160)}, "shape": (3, 84, 84),
        "shots": 1, "B": 1, "queries": 5, "rounds": 2, "without": ["vmap", "torch.func"],
    },
}  # fmt: skip


class Case:
    """One workload: a model, its data, and the contestants."""

    def __init__(self, spec: dict[str, Any], K: int = K) -> None:
        self.spec, self.K = spec, K
        self.B, self.alpha = spec.get("B", 4), spec.get("alpha", 0.01)
        self.regression = spec["model"] == "mlp"
        out = 1 if self.regression else 5
        model = build_model(spec["model"], spec.get("options", {}), spec["shape"], out, 0)
        self.model: nn.Module = model
        self.loss = F.mse_loss if self.regression else F.cross_entropy
        random = torch.Generator().manual_seed(0)
        sizes = (10, 10) if self.regression else (
            5 * spec["shots"], 5 * spec.get("queries", 15))  # fmt: skip
        parts = []
        for n in sizes:
            x = torch.rand(self.B, n, *spec["shape"], generator=random)
            if self.regression:
                x = 10 * x - 5
                parts += [x, x.sin()]
            else:
                parts += [x, torch.arange(5).repeat_interleave(n // 5).expand(self.B, -1)]
        self.batch = EpisodeBatch(*parts)
        self.layout = Layout.of(model)
        self.theta = initial_parameters(model)

    def ours(self, engine: Any, name: str, compiled: bool = False, **options: Any) -> Any:
        estimator = registry.create("estimator", name, options)
        rule = registry.create("rule", "gd", {})
        how = Adaptation(self.K, self.alpha, rule, torch.empty(0), engine.layout)

        def run(theta: Tensor, batch: EpisodeBatch) -> Tensor:
            keep = estimator.steps(self.K)
            adapted, _, _ = adapt_and_validate(engine, theta, batch, how, keep)
            return estimate(estimator, adapted)[0]

        step = torch.compile(run, options={"cpp_wrapper": True}) if compiled else run
        return lambda: step(self.theta, self.batch)

    def learn2learn(self, first_order: bool) -> Callable[[], Tensor]:
        learner = load_learn2learn().algorithms.MAML(
            self.model, lr=self.alpha, first_order=first_order
        )
        x_trn, y_trn = self.batch.x_trn, self.batch.y_trn
        x_val, y_val = self.batch.x_val, self.batch.y_val

        def step() -> Tensor:
            self.model.zero_grad()
            for b in range(self.B):
                clone = learner.clone()
                for _ in range(self.K):
                    clone.adapt(self.loss(clone(x_trn[b]), y_trn[b]))
                self.loss(clone(x_val[b]), y_val[b]).backward()
            return torch.cat([p.grad.reshape(-1) for p in self.model.parameters()])

        return step

    def _task_loss(self, phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(functional_call(self.model, self.layout.unflatten(phi), (x,)), y)

    def functional(self, product: str) -> Callable[[], Tensor]:
        """Binom(L) by the cascade of Theorem 3.2, H v by vmap over all tasks and points of a level
        of vjp(grad) or jvp(grad)."""
        gradient = grad(self._task_loss)

        def hvp(phi: Tensor, v: Tensor, x: Tensor, y: Tensor) -> Tensor:
            def at(p: Tensor) -> Tensor:
                return gradient(p, x, y)

            return vjp(at, phi)[1](v)[0] if product == "vjp" else jvp(at, (phi,), (v,))[1]

        def step() -> Tensor:
            batch, P = self.batch, self.K - L + 1
            phi = self.theta.expand(self.B, -1)
            path = []
            for _ in range(self.K):
                path.append(phi)
                phi = phi - self.alpha * vmap(gradient)(phi, batch.x_trn, batch.y_trn)
            g = vmap(gradient)(phi, batch.x_val, batch.y_val)
            V = g.unsqueeze(1).expand(-1, P, -1)
            points = torch.stack(path, 1)
            x, y = (t.repeat_interleave(P, 0) for t in (batch.x_trn, batch.y_trn))
            for level in range(L):
                here = points[:, L - 1 - level : L - 1 - level + P].flatten(0, 1)
                U = vmap(hvp)(here, V.flatten(0, 1), x, y).view(self.B, P, -1)
                V = V[:, -1:] - self.alpha * U.flip(1).cumsum(1).flip(1)
            return V[:, 0]

        return step

    def backprop(self) -> Callable[[], Tensor]:
        """Exact MAML: torch.func through the whole inner loop, vmapped over the tasks."""
        gradient = grad(self._task_loss)

        def meta(theta: Tensor, x: Tensor, y: Tensor, x_val: Tensor, y_val: Tensor) -> Tensor:
            phi = theta
            for _ in range(self.K):
                phi = phi - self.alpha * gradient(phi, x, y)
            return self._task_loss(phi, x_val, y_val)

        b = self.batch
        return lambda: vmap(grad(meta), (None, 0, 0, 0, 0))(
            self.theta, b.x_trn, b.y_trn, b.x_val, b.y_val
        )

    def contestants(self) -> dict[str, Callable[[], Tensor]]:
        fast = AnalyticEngine(self.model, self.loss)
        found = {
            "learn2learn MAML": self.learn2learn(False),
            "learn2learn FOMAML": self.learn2learn(True),
            "torch.func backprop, MAML": self.backprop(),
            "vmap(vjp(grad)), Binom(2)": self.functional("vjp"),
            "vmap(jvp(grad)), Binom(2)": self.functional("jvp"),
            "binomctl FOMAML": self.ours(fast, "fomaml"),
            "binomctl MAML": self.ours(fast, "maml"),
            "binomctl Binom(2)": self.ours(fast, "binom", L=L),
            "binomctl MAML, autograd": self.ours(AutogradEngine(self.model, self.loss), "maml"),
        }
        if self.regression:
            found["binomctl MAML, compiled"] = self.ours(fast, "maml", compiled=True)
            found["binomctl Binom(2), compiled"] = self.ours(fast, "binom", compiled=True, L=L)
        return found

    def work(self, products: int) -> float | None:
        """FLOPs of a step with so many Hessian-vector products; Conv4 alone.

        Convolution l costs c_l forward; a gradient 3 F - c_1, a product with the primal stored
        6 F - 4 c_1: the input needs neither gradient nor tangent.
        """
        if self.spec["model"] != "conv4":
            return None
        channels, size, _ = self.spec["shape"]
        costs = []
        for _ in range(4):
            costs.append(2 * 9 * channels * 32 * size * size)
            channels, size = 32, size // 2
        F_, first = sum(costs), costs[0]
        N_s, N_q = self.batch.y_trn.shape[1], self.batch.y_val.shape[1]
        G, T = 3 * F_ - first, 6 * F_ - 4 * first
        return self.B * ((self.K * N_s + N_q) * G + products * N_s * T)


def large_images(spec: dict[str, Any]) -> bool:
    """As binomctl/problem.py has it for a run."""
    places = 5 * spec.get("queries", 15) * math.prod(spec["shape"][1:])
    return len(spec["shape"]) == 3 and places > LARGE


PRODUCTS = {"binomctl FOMAML": 0, "binomctl MAML": K, "binomctl Binom(2)": L * (K - L + 1)}
BASE = "learn2learn MAML"


def worker(name: str, rounds: int) -> dict[str, Any]:
    """Times of all contestants of a workload, round after round, in this process."""
    case = Case(WORKLOADS[name])
    without = tuple(case.spec.get("without", ()))
    contestants = {
        label: step
        for label, step in case.contestants().items()
        if not without or not label.startswith(without)
    }
    failed: dict[str, str] = {}
    differences: dict[str, float] = {}
    reference = contestants["binomctl MAML, autograd"]()
    binom = case.ours(AutogradEngine(case.model, case.loss), "binom", L=L)()
    for label, step in list(contestants.items()):  # nothing wrong is timed
        try:
            found = step()
        except RuntimeError as error:
            failed[label] = f"{type(error).__name__}: {str(error)[:120]}"
            del contestants[label]
            continue
        if "FOMAML" in label:
            continue
        wanted = binom if "Binom" in label else reference
        wanted = wanted.sum(0) if found.dim() == 1 else wanted
        error = float((found - wanted).norm() / wanted.norm())
        # In float32 a near-tie of ReLU or max-pool may fall the other way and change a task's
        # gradient by some per cent, autograd's too; in float64 the tests hold all to 1e-10.
        differences[label] = float(f"{error:.1e}")
        if error > 0.1:
            raise SystemExit(f"{name}: {label} is off by {error:.1e}; nothing was timed")
    times: dict[str, list[float]] = {label: [] for label in contestants}
    quick = "rounds" not in case.spec
    for _ in range(case.spec.get("rounds", rounds)):
        for label, step in contestants.items():
            if quick:
                step()  # its own caches and pages, not those of the one before
            start = time.perf_counter()
            step()
            times[label].append(1e3 * (time.perf_counter() - start))
    a = torch.rand(1024, 1024)
    rates = []
    for _ in range(9):
        start = time.perf_counter()
        a @ a
        rates.append(2 * 1024**3 / (time.perf_counter() - start))
    return {
        "times": times,
        "failed": failed,
        "differences": differences,
        "sgemm": statistics.median(rates),
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def sweeps() -> dict[str, list[dict[str, Any]]]:
    """How time and peak memory of our steps grow with K, L, B and shots; Conv4-32 28x28x1."""
    tune_allocator()
    base = WORKLOADS["Conv4-32 28x28x1, 1-shot"]

    def measure(spec: dict[str, Any], K: int, name: str, **options: Any) -> dict[str, Any]:
        case = Case(base | spec, K)
        step = case.ours(AnalyticEngine(case.model, case.loss), name, **options)
        step()
        ms = []
        for _ in range(7):
            start = time.perf_counter()
            step()
            ms.append(1e3 * (time.perf_counter() - start))
        # The record of allocations is one thread's: counted with the tasks one after the other.
        one_by_one = AnalyticEngine(case.model, case.loss, threads=1)
        peak = peak_allocated(case.ours(one_by_one, name, **options))
        return {"ms": round(statistics.median(ms), 1), "peak_mib": round(peak / 2**20, 1)}

    return {
        "MAML against K": [{"K": k} | measure({}, k, "maml") for k in (1, 2, 5, 10)],
        "Binom(L) against L, K = 5": [
            {"L": order} | measure({}, 5, "binom", L=order) for order in range(6)
        ],
        "MAML against B": [{"B": b} | measure({"B": b}, 5, "maml") for b in (1, 2, 4, 8)],
        "MAML against shots": [
            {"shots": s} | measure({"shots": s}, 5, "maml") for s in (1, 2, 5, 10)
        ],
    }


def summary(name: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """One workload: medians with p10 and p90, ratios to learn2learn's MAML, share of the floor."""
    case = Case(WORKLOADS[name])
    out: dict[str, Any] = {}
    for allocator, parts in runs.items():
        rate = statistics.median(p["sgemm"] for p in parts)
        rows: dict[str, Any] = {}
        for label in parts[0]["times"]:
            times = sorted(t for p in parts for t in p["times"][label])
            median = statistics.median(times)
            rows[label] = {
                "median_ms": round(median, 2),
                "p10_ms": round(times[len(times) // 10], 2),
                "p90_ms": round(times[9 * len(times) // 10], 2),
                "n": len(times),
            }
            work = case.work(PRODUCTS[label]) if label in PRODUCTS else None
            if work is not None:
                rows[label]["share_of_floor"] = round(1e3 * work / rate / median, 3)
        out[allocator] = {
            "sgemm_gflops": round(rate / 1e9, 1),
            "peak_resident_mib": round(statistics.median(p["resident"] for p in parts) / 2**20),
            "failed": parts[0]["failed"],
            "difference_from_autograd": parts[0]["differences"],
            "contestants": rows,
        }
    for label, row in out["tuned"]["contestants"].items():
        row["times_as_fast"] = {
            a: round(out[a]["contestants"][BASE]["median_ms"] / row["median_ms"], 2) for a in out
        }
        del label
    return out


def table(report: dict[str, Any]) -> str:
    """The page's table: ours tuned, against learn2learn as it is used and tuned alike."""
    lines = [
        "| workload | step | median (p10 to p90; n), ms | learn2learn MAML: as it is / tuned |"
        " share of floor |",
        "|---|---|---|---|---|",
    ]
    for name, found in report["workloads"].items():
        for label, row in found["tuned"]["contestants"].items():
            fast = row["times_as_fast"]
            share = f"{row['share_of_floor']:.0%}" if "share_of_floor" in row else ""
            spread = f"{row['p10_ms']:g} to {row['p90_ms']:g}"
            lines.append(
                f"| {name} | {label} | {row['median_ms']:g} ({spread}; {row['n']})"
                f" | {fast['system']:.2f} / {fast['tuned']:.2f} | {share} |"
            )
            name = ""
        for label, why in found["tuned"]["failed"].items():
            lines.append(f"| | {label} | fails: {why} | | |")
    return "\n".join(lines)


def draw(report: dict[str, Any]) -> None:
    from binomctl.figures import new_figure, save

    figure = new_figure(8.6, 5.2)
    names = list(report["workloads"])
    grid = figure.subplots(-(-len(names) // 2), 2)
    colours = {
        "learn2learn": "#9a9a9a",
        "torch": "#c9a227",
        "vmap": "#c9a227",
        "binomctl": "#1f6fb2",
    }
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, names, strict=False):
        rows = report["workloads"][name]["tuned"]["contestants"]
        rows = {k: v for k, v in rows.items() if "autograd" not in k}
        labels = list(rows)[::-1]
        values = [rows[label]["median_ms"] for label in labels]
        axes.barh(labels, values, color=[colours[label.split()[0].split(".")[0].split("(")[0]]
                                         for label in labels])  # fmt: skip
        for i, value in enumerate(values):
            axes.text(value, i, f" {value:,.0f}" if value >= 100 else f" {value:.3g}", fontsize=6)
        axes.set_title(name.replace(", B = 1", ",\nB = 1"), fontsize=7, loc="left")
        axes.tick_params(labelsize=6)
        axes.set_xlim(0, 1.18 * max(values))
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("ms per meta-step", fontsize=6)
    save(figure, FIGURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker")
    parser.add_argument("--allocator", choices=["system", "tuned"], default="system")
    parser.add_argument("--only", help="a part of a workload's name")
    args = parser.parse_args()
    if args.worker:
        if args.allocator == "tuned":
            tune_allocator(one_arena=large_images(WORKLOADS[args.worker]))
        print(json.dumps(worker(args.worker, args.rounds)))
        return
    report: dict[str, Any] = {
        "schema": "binomctl/speed/1",
        "environment": environment(),
        "config": {"K": K, "L": L, "rounds": args.rounds, "workloads": WORKLOADS, "ways": 5,
                   "dtype": "float32", "seed": 0},
        "workloads": {},
    }  # fmt: skip
    for name in WORKLOADS:
        if args.only and args.only not in name:
            continue
        runs: dict[str, list[dict[str, Any]]] = {"system": [], "tuned": []}
        for allocator, parts in runs.items():
            done = subprocess.run(
                [sys.executable, __file__, "--worker", name, "--allocator", allocator,
                 "--rounds", str(args.rounds)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            parts.append(json.loads(done.stdout.splitlines()[-1]))
        report["workloads"][name] = summary(name, runs)
        if not args.only:
            RESULT.write_text(json.dumps(report, indent=1) + "\n")
        print(name, flush=True)
        print(json.dumps(report["workloads"][name]["tuned"]["contestants"], indent=1))
    report["sweeps"] = sweeps()
    if args.only:
        return
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(report)}\n{END}{after}", encoding="utf-8")
    draw(report)


if __name__ == "__main__":
    main()
