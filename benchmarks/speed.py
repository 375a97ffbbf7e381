"""Meta-steps of binomctl against learn2learn's and torch.func's, and their share of the floor.

    python benchmarks/speed.py [--rounds 3]

Every workload runs in worker processes, with glibc's allocator as it is and tuned in turn
(binomctl/machine/allocator.py); all contestants run in turn, on the same model, weights and random
data, within a worker or, those of the smallest workload, in processes of their own (apart.py). A
step is everything from the parameters to the meta-gradient. The floor is the work (convolutions and
matrix products, formulas below) at the rate of a 1024 x 1024 sgemm measured beside it. JAX and
TorchOpt take part where they are installed (`pip install -e '.[rivals]'`). Writes
benchmarks/results/speed.json, docs/speed.md's table and docs/figures/speed.svg.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from apart import serve, take_turns
from contestants import WORKLOADS, Case, K, L, large_images
from speed_page import BASE, RESULT, summary, write

from binomctl.curvature import AutogradEngine
from binomctl.machine.allocator import tune_allocator
from binomctl.machine.environment import environment

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
        error = apart_by(found, wanted.sum(0) if found.dim() == 1 else wanted)
        differences[label] = float(f"{error:.1e}")
        # In float32 a near-tie of ReLU or max-pool may fall the other way and change a task's
        # gradient by some per cent, autograd's too: float64 says whether it is that.
        if error > 0.1 and not same_in_double(name, label):
            raise SystemExit(f"{name}: {label} is off by {error:.1e}; nothing was timed")
    return failed, differences


def apart_by(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def same_in_double(name: str, label: str) -> bool:
    """Whether ours or learn2learn's is autograd's in float64; of any other nobody knows."""
    if label != BASE and not label.startswith("binomctl"):
        return False
    case, wanted = in_double(name, "Binom" in label)
    if label == BASE:
        return apart_by(case.learn2learn(False)(), wanted.sum(0)) < 1e-9
    how: dict[str, Any] = {"name": "binom", "L": L} if "Binom" in label else {"name": "maml"}
    return apart_by(case.ours(case.fast(), **how)(), wanted) < 1e-9


@functools.cache
def in_double(name: str, binom: bool) -> tuple[Case, torch.Tensor]:
    """A workload in float64, and autograd's meta-gradient, exact or of Binom(L)."""
    case = Case(WORKLOADS[name]).to(torch.device("cpu"), torch.float64)
    engine = AutogradEngine(case.model, case.loss)
    return case, (case.ours(engine, "binom", L=L) if binom else case.ours(engine, "maml"))()


def product_rate() -> float:
    """FLOP/s of a 1024 x 1024 sgemm; of a second, for a shared machine has bad moments."""
    a = torch.rand(1024, 1024)
    rates = []
    for _ in range(99):
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


def product_over_gradient(name: str, rounds: int) -> dict[str, float]:
    """What H v costs beside the gradient that it follows, interleaved in this process."""
    case = Case(WORKLOADS[name])
    curvature = case.fast().curvature(case.batch.x_trn, case.batch.y_trn)
    phi = case.theta.expand(case.B, -1).contiguous()
    V = torch.randn(case.B, 1, phi.shape[1], generator=torch.Generator().manual_seed(0))
    steps = {
        "gradient": lambda: curvature.gradient(phi, 0, keep=True),
        "product": lambda: curvature.hvp([0], V),
    }
    times: dict[str, list[float]] = {label: [] for label in steps}
    for _ in range(rounds + 1):
        for label, step in steps.items():
            start = time.perf_counter()
            step()
            times[label].append(1e3 * (time.perf_counter() - start))
    medians = {label: statistics.median(ms[1:]) for label, ms in times.items()}
    return {
        **{f"{label}_ms": round(ms, 1) for label, ms in medians.items()},
        "ratio": round(medians["product"] / medians["gradient"], 2),
        "n": rounds,
    }


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
    parser.add_argument("--product", action="store_true")
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
        if args.alone:
            run = alone(args.worker, rounds, args.alone)
        elif args.product:
            run = product_over_gradient(args.worker, rounds)
        else:
            run = worker(args.worker, rounds, args.few)
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
        report["products"] = {
            name: in_a_process(name, "tuned", 15, "--product") for name in report["peaks"]
        }
    if not args.only or args.busy:
        report["busy"] = {name: busy(name) for name in DISTURBED}
    write(report)


if __name__ == "__main__":
    main()
