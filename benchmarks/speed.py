"""Meta-steps of binomctl against learn2learn's and torch.func's, and their share of the floor.

    python benchmarks/speed.py [--rounds 3]

Every workload runs in worker processes, with glibc's allocator as it is and tuned in turn
(binomctl/machine/allocator.py); all contestants run in turn, on the same model, weights and random
data, within a worker or, those of the smallest workload, in processes of their own (apart.py). A
step is everything from the parameters to the meta-gradient. The floor is the work (convolutions and
matrix products, formulas below) at the rate of a 1024 x 1024 sgemm measured beside it. JAX and
TorchOpt take part where they are installed (`pip install jax torchopt`). Writes
benchmarks/results/speed.json, docs/speed.md's table and docs/figures/speed.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from apart import serve, take_turns
from contestants import WORKLOADS, Case, K, L, large_images
from pages import put
from turns import spread

from binomctl.curvature import AutogradEngine
from binomctl.machine.allocator import tune_allocator
from binomctl.machine.environment import environment

ROOT = Path(__file__).parents[1]
RESULT, FIGURE = ROOT / "benchmarks/results/speed.json", ROOT / "docs/figures/speed.svg"
PAGE = ROOT / "docs/speed.md"
PRODUCTS = {
    "learn2learn FOMAML": 0,
    "learn2learn MAML": K,
    "binomctl FOMAML": 0,
    "binomctl MAML": K,
    "binomctl Binom(2)": L * (K - L + 1),
}
BASE = "learn2learn MAML"
BUSY_ROUNDS = 9
FEW = {"binomctl FOMAML", "binomctl MAML", "binomctl Binom(2)", "JAX MAML, vmap",
       "JAX FOMAML, vmap", "learn2learn MAML"}  # fmt: skip
DISTURBED = ("sinusoid MLP, B = 25", "Conv4-32 28x28x1, 1-shot")


def chosen(case: Case, few: bool) -> dict[str, Callable[[], torch.Tensor]]:
    """All contestants of a workload, or FEW of them."""
    without = tuple(case.spec.get("without", ()))
    return {
        label: step
        for label, step in case.contestants().items()
        if (not without or not label.startswith(without)) and (not few or label in FEW)
    }


def checked(
    name: str, case: Case, contestants: dict[str, Callable[[], torch.Tensor]]
) -> tuple[dict[str, str], dict[str, float]]:
    """What fails, which is taken out, and how far the others are from autograd: nothing wrong is
    timed."""
    failed: dict[str, str] = {}
    differences: dict[str, float] = {}
    reference = case.ours(AutogradEngine(case.model, case.loss), "maml")()
    binom = case.ours(AutogradEngine(case.model, case.loss), "binom", L=L)()
    for label, step in list(contestants.items()):
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
    return failed, differences


def product_rate() -> float:
    """FLOP/s of a 1024 x 1024 sgemm."""
    a = torch.rand(1024, 1024)
    rates = []
    for _ in range(9):
        start = time.perf_counter()
        a @ a
        rates.append(2 * 1024**3 / (time.perf_counter() - start))
    return statistics.median(rates)


def worker(name: str, rounds: int, few: bool = False) -> dict[str, Any]:
    """Times of all contestants of a workload, or of FEW, round after round, in this process."""
    case = Case(WORKLOADS[name])
    contestants = chosen(case, few)
    failed, differences = checked(name, case, contestants)
    times: dict[str, list[float]] = {label: [] for label in contestants}
    quick = "rounds" not in case.spec
    for _ in range(rounds if few else case.spec.get("rounds", rounds)):
        for label, step in contestants.items():
            if quick:
                step()  # its own caches and pages, not those of the one before
            start = time.perf_counter()
            step()
            times[label].append(1e3 * (time.perf_counter() - start))
    return {
        "times": times,
        "failed": failed,
        "differences": differences,
        "sgemm": product_rate(),
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def one_of(name: str, label: str) -> None:
    """A contestant in this process, which waits for its turns."""
    case = Case(WORKLOADS[name])
    contestants = {label: case.contestants()[label]}
    failed, differences = checked(name, case, contestants)
    step = contestants.get(label, lambda: None)
    serve(step, {"failed": failed, "differences": differences})


def apart(name: str, allocator: str, rounds: int, few: bool = False) -> dict[str, Any]:
    """As `worker`, every contestant in a process of its own."""
    labels = list(chosen(Case(WORKLOADS[name]), few))
    commands = [(label, [*in_worker(name, allocator), "--apart", label]) for label in labels]
    times, about = take_turns(commands, rounds if few else WORKLOADS[name].get("rounds", rounds))
    failed = {label: why for said in about.values() for label, why in said["failed"].items()}
    return {
        "times": {label: ms for label, ms in times.items() if label not in failed},
        "failed": failed,
        "differences": {l: d for said in about.values() for l, d in said["differences"].items()},
        "sgemm": product_rate(),
        "resident": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def allocators() -> dict[str, dict[str, Any]]:
    """What the tuned allocator does to our exact MAML alone: time and peak resident set."""
    out: dict[str, dict[str, Any]] = {}
    for name in ("Conv4-32 28x28x1, 1-shot", "Conv4-32 84x84x3, 1-shot"):
        runs = {
            a: in_a_process(name, a, 9, "--alone", "binomctl MAML") for a in ("system", "tuned")
        }
        out[name] = {
            a: {
                "median_ms": round(statistics.median(run["times"]["binomctl MAML"]), 1),
                "peak_resident_mib": round(run["resident"] / 2**20),
                "resident_before_mib": round(run["before"] / 2**20),
            }
            for a, run in runs.items()
        }
    return out


def peaks() -> dict[str, Any]:
    """Peak resident sets of exact MAML on one task, beyond what stood before: learn2learn takes the
    tasks one by one."""
    out: dict[str, Any] = {}
    for name in (name for name, spec in WORKLOADS.items() if spec.get("peaks")):
        runs = {
            label: in_a_process(name, "tuned", 3, "--alone", label)
            for label in (
                f"{BASE}, B = 1",
                "binomctl MAML, B = 1",
                "binomctl MAML, B = 1, recompute",
            )
        }
        out[name] = {
            label: {
                "beyond_the_start_mib": round((run["resident"] - run["before"]) / 2**20),
                "median_ms": round(statistics.median(run["times"][label]), 1),
            }
            for label, run in runs.items()
        }
    return out


def alone(name: str, rounds: int, label: str) -> dict[str, Any]:
    """One contestant and nothing else in this process."""
    spec = WORKLOADS[name]
    case = Case(spec | {"B": 1} if "B = 1" in label else spec)
    if label.startswith(BASE):
        step = case.learn2learn(False)
    else:
        memory = "recompute" if label.endswith("recompute") else "store"
        step = case.ours(case.fast(memory=memory), "maml")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"times": {label: times[1:]}, "resident": resident, "before": before}


def busy(name: str) -> dict[str, Any]:
    """What another process on every core does to each contestant: medians, and their ratios."""
    quiet = measured(name, "tuned", BUSY_ROUNDS, few=True)
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in os.sched_getaffinity(0)
    ]
    try:
        disturbed = measured(name, "tuned", BUSY_ROUNDS, few=True)
    finally:
        for other in others:
            other.kill()
            other.wait()
    medians = [
        {label: statistics.median(ms) for label, ms in run["times"].items()}
        for run in (quiet, disturbed)
    ]
    return {
        label: {
            "quiet_ms": round(medians[0][label], 2),
            "busy_ms": round(medians[1][label], 2),
            "times_as_long": round(medians[1][label] / medians[0][label], 2),
        }
        for label in medians[0]
    }


def summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One workload: medians with p10 and p90, ratios to learn2learn's MAML, share of the floor."""
    out: dict[str, Any] = {}
    for allocator, run in runs.items():
        rows: dict[str, Any] = {}
        for label, ms in run["times"].items():
            rows[label] = spread(ms)
        out[allocator] = {
            "sgemm_gflops": round(run["sgemm"] / 1e9, 1),
            "peak_resident_mib": round(run["resident"] / 2**20),
            "failed": run["failed"],
            "difference_from_autograd": run["differences"],
            "contestants": rows,
        }
    for row in out["tuned"]["contestants"].values():
        row["times_as_fast"] = {
            a: round(out[a]["contestants"][BASE]["median_ms"] / row["median_ms"], 2) for a in out
        }
    return out


def add_shares(report: dict[str, Any]) -> None:
    """What the work of each of our steps takes at the rate of a large matrix product, as a share of
    its median."""
    for name, found in report["workloads"].items():
        case = Case(WORKLOADS[name])
        for allocator in (a for a in ("system", "tuned") if a in found):
            rows, rate = found[allocator]["contestants"], 1e9 * found[allocator]["sgemm_gflops"]
            for label in PRODUCTS.keys() & rows.keys():
                work = case.work(PRODUCTS[label])
                if work is not None:
                    share = round(1e3 * work / rate / rows[label]["median_ms"], 3)
                    rows[label]["share_of_floor"] = share


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
            against = " / ".join(
                f"{fast[a]:.2f}" if a in fast else "-" for a in ("system", "tuned")
            )
            spread = f"{row['p10_ms']:g} to {row['p90_ms']:g}"
            lines.append(
                f"| {name} | {label} | {row['median_ms']:g} ({spread}; {row['n']})"
                f" | {against} | {share} |"
            )
            name = ""
        for label, why in found["tuned"]["failed"].items():
            lines.append(f"| | {label} | fails: {why} | | |")
    return "\n".join(lines)


def busy_table(found: dict[str, Any]) -> str:
    """Medians on a quiet machine and beside a process that keeps every core busy."""
    lines = ["| workload | step | quiet, ms | busy, ms | times as long |", "|---|---|---|---|---|"]
    for name, rows in found.items():
        for label, row in rows.items():
            lines.append(
                f"| {name} | {label} | {row['quiet_ms']:g} | {row['busy_ms']:g}"
                f" | {row['times_as_long']:.1f} |"
            )
            name = ""
    return "\n".join(lines)


def _drawn(found: dict[str, Any]) -> dict[str, float]:
    """Medians by contestant, without our own slower engine."""
    rows = found["tuned"]["contestants"]
    return {label: row["median_ms"] for label, row in rows.items() if "autograd" not in label}


def draw(report: dict[str, Any]) -> None:
    from binomctl.reporting.figures import caption, new_figure, save
    from binomctl.reporting.look import COLOURS, tint

    names = list(report["workloads"])
    shown = {name: _drawn(report["workloads"][name]) for name in names}
    bars = [max(len(shown[name]) for name in names[i : i + 2]) for i in range(0, len(names), 2)]
    figure = new_figure(8.6, 0.14 * sum(bars) + 0.75 * len(bars))
    grid = figure.subplots(len(bars), 2, height_ratios=[n + 2 for n in bars])
    colours = {
        "learn2learn": tint(COLOURS[0], 0.4),
        "torch": COLOURS[7],
        "vmap": COLOURS[7],
        "binomctl": COLOURS[1],
        "JAX": COLOURS[3],
        "TorchOpt": COLOURS[4],
    }
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, names, strict=False):
        labels, values = list(shown[name])[::-1], list(shown[name].values())[::-1]
        axes.barh(labels, values, color=[colours[label.split()[0].split(".")[0].split("(")[0]]
                                         for label in labels])  # fmt: skip
        for i, value in enumerate(values):
            text = f" {value:,.0f}" if value >= 100 else f" {value:.3g}"
            axes.text(value, i, text, va="center", fontsize=6)
        axes.set_title("\n".join(textwrap.wrap(name, 52)), fontsize=7, loc="left")
        axes.tick_params(labelsize=6)
        axes.set_xlim(0, 1.18 * max(values))
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("ms per meta-step", fontsize=6)
    config = report["config"]
    counts = [row["n"] for found in report["workloads"].values()
              for row in found["tuned"]["contestants"].values()]  # fmt: skip
    caption(
        figure,
        f"Binom, L = {config['L']}, K = {config['K']}, {config['ways']}-way, {config['dtype']},"
        f" random data, alpha = 0.01; median of n = {min(counts)} to"
        f" {max(counts)} steps; tuned allocator",
    )
    save(figure, FIGURE)


def write(report: dict[str, Any]) -> None:
    """The result, the page's tables and the picture."""
    add_shares(report)
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    put(PAGE, "table", table(report))
    if "busy" in report:
        put(PAGE, "busy", busy_table(report["busy"]))
    draw(report)


def in_worker(name: str, allocator: str) -> list[str]:
    """The command of a process that works on a workload."""
    return [sys.executable, __file__, "--worker", name, "--allocator", allocator]


def measured(name: str, allocator: str, rounds: int, few: bool = False) -> dict[str, Any]:
    """Times of a workload's contestants, or of FEW."""
    if WORKLOADS[name].get("apart"):
        return apart(name, allocator, rounds, few)
    return in_a_process(name, allocator, rounds, *(["--few"] if few else []))


def in_a_process(name: str, allocator: str, rounds: int, *more: str) -> dict[str, Any]:
    """`worker` in a process of its own, whose allocator is as it is said."""
    command = [*in_worker(name, allocator), "--rounds", str(rounds), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker")
    parser.add_argument("--allocator", choices=["system", "tuned"], default="system")
    parser.add_argument("--alone", metavar="CONTESTANT")
    parser.add_argument("--apart", metavar="CONTESTANT")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--only", help="a part of a workload's name: measured anew, others kept")
    parser.add_argument("--busy", action="store_true", help="with --only: beside others, too")
    parser.add_argument("--draw", action="store_true", help="draw again from the kept JSON")
    args = parser.parse_args()
    if args.draw:
        write(json.loads(RESULT.read_text()))
        return
    if args.worker:
        if args.allocator == "tuned":
            tune_allocator(one_arena=large_images(WORKLOADS[args.worker]))
        if args.apart:
            one_of(args.worker, args.apart)
            return
        rounds = args.rounds
        run = (
            alone(args.worker, rounds, args.alone)
            if args.alone
            else worker(args.worker, rounds, args.few)
        )
        print(json.dumps(run))
        return
    kept = json.loads(RESULT.read_text()) if args.only else {}
    report: dict[str, Any] = kept or {
        "schema": "binomctl/speed/1",
        "environment": environment(),
        "config": {"K": K, "L": L, "rounds": args.rounds, "workloads": WORKLOADS, "ways": 5,
                   "dtype": "float32", "seed": 0},
        "workloads": {},
    }  # fmt: skip
    for name in WORKLOADS:
        if args.only and args.only not in name:
            continue
        those = WORKLOADS[name].get("allocators", ["system", "tuned"])
        runs = {a: measured(name, a, args.rounds) for a in those}
        report["workloads"][name] = {"environment": environment()} | summary(runs)
        RESULT.write_text(json.dumps(report, indent=1) + "\n")
        print(name, flush=True)
        print(json.dumps(report["workloads"][name]["tuned"]["contestants"], indent=1))
    if not args.only:
        report["allocators"] = allocators()
    if not args.only or any(args.only in n for n in WORKLOADS if WORKLOADS[n].get("peaks")):
        report["peaks"] = peaks()
    if not args.only or args.busy:
        report["busy"] = {name: busy(name) for name in DISTURBED}
    write(report)


if __name__ == "__main__":
    main()
