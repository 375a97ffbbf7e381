"""Everything that only a GPU can tell, in one run of about 10 minutes: see gpu.sh.

    python benchmarks/gpu.py OUT [--device cuda] [--quick]

1. checks: the layer algebra against autograd, exact MAML and Binom(2), float64 and float32;
2. contestants: our steps, learn2learn's and JAX's (where it is installed) in turn, on the device;
3. capture: a training step as a CUDA graph and without one;
4. Figure 4: `binomctl profile` with GPU time, peak memory and SM activity.
Writes OUT/gpu.json after every part, and OUT/fig4.svg. A part that fails is written down with its
error, and the others go on. `--device cpu --quick` is the same run at the smallest sizes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from contestants import WORKLOADS, Case, K, L
from torch import Tensor
from turns import spread

from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.machine.environment import environment
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.training.step import step_function

CHECKED = ["sinusoid MLP, B = 25", "Conv4-32 28x28x1, 1-shot"]
TIMED = [*CHECKED, "Conv4-32 28x28x1, 5-shot", "Conv4-32 84x84x3, 1-shot"]
LEFT_OUT = ("vmap", "torch.func", "binomctl MAML, compiled", "binomctl Binom(2), compiled")


def timed(step: Callable[[], Any], device: torch.device, rounds: int) -> list[float]:
    """Milliseconds of whole steps: between CUDA events on a GPU, by the clock elsewhere."""
    if device.type != "cuda":
        out = []
        for _ in range(rounds):
            start = time.perf_counter()
            step()
            out.append(1e3 * (time.perf_counter() - start))
        return out
    marks = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(rounds)
    ]
    for start, end in marks:
        start.record()
        step()
        end.record()
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) for start, end in marks]


def off(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted|."""
    return float((found - wanted).norm() / wanted.norm())


def checks(device: torch.device, quick: bool) -> dict[str, Any]:
    """Relative differences of meta-gradients from autograd's on the same device."""
    out: dict[str, Any] = {}
    for name in CHECKED[:1] if quick else CHECKED:
        for dtype in (torch.float64, torch.float32):
            case = Case(WORKLOADS[name]).to(device, dtype)
            fast, plain = (
                AnalyticEngine(case.model, case.loss),
                AutogradEngine(case.model, case.loss),
            )
            found = {
                label: off(case.ours(fast, how, **more)(), case.ours(plain, how, **more)())
                for label, how, more in (
                    ("exact MAML", "maml", {}),
                    (f"Binom({L})", "binom", {"L": L}),
                )
            }
            out[f"{name}, {str(dtype).removeprefix('torch.')}"] = found
            if dtype == torch.float64 and max(found.values()) > 1e-9:
                raise SystemExit(f"{name}: off by {max(found.values()):.1e} in float64: not timed")
    return out


def contestants(device: torch.device, quick: bool) -> dict[str, Any]:
    """Every workload's contestants in turn, round after round."""
    out: dict[str, Any] = {}
    for name in CHECKED[:1] if quick else TIMED:
        case = Case(WORKLOADS[name]).to(device, torch.float32)
        steps = {k: s for k, s in case.contestants().items() if not k.startswith(LEFT_OUT)}
        ms: dict[str, list[float]] = {label: [] for label in steps}
        failed: dict[str, str] = {}
        for label, step in list(steps.items()):
            try:
                timed(step, device, 1 if quick else 3)  # warm
            except RuntimeError as error:
                failed[label] = f"{type(error).__name__}: {str(error)[:200]}"
                del steps[label]
        for _ in range(1 if quick else 5):
            for label, step in steps.items():
                ms[label] += timed(step, device, 2 if quick else 5)
        out[name] = {label: spread(ms[label], 4) for label in steps} | {"failed": failed}
    return out


def capture(device: torch.device, quick: bool) -> dict[str, Any]:
    """A training step's meta-gradient, recorded and not, in turn."""
    out: dict[str, Any] = {}
    for dataset in ("sinusoid",) if quick else ("sinusoid", "glyphs"):
        for name, options in (("maml", {}), ("binom", {"estimator.L": L})):
            steps = {}
            for how in ("off", "on") if device.type == "cuda" else ("off",):
                keys = {"dataset.name": dataset, "estimator.name": name, "device": str(device)}
                config, _ = load_config(overrides=keys | options | {"engine.capture": how})
                problem = build_problem(config)
                compute, B = step_function(problem), config.training.meta_batch
                batch = problem.training_batch(range(B))
                theta, m = problem.theta.clone(), problem.m

                def step(compute: Any = compute, at: Any = (theta, m, batch)) -> Any:
                    return compute(*at)

                steps[how] = step
                timed(step, device, 2)
            ms: dict[str, list[float]] = {how: [] for how in steps}
            for _ in range(2 if quick else 10):
                for how, step in steps.items():
                    ms[how] += timed(step, device, 3)
            out[f"{dataset}, {name}"] = {how: spread(found, 4) for how, found in ms.items()}
    return out


def figure4(device: torch.device, quick: bool, folder: Path) -> dict[str, Any]:
    """The profile of Figure 4's workload, as `binomctl profile --json` prints it."""
    command = [sys.executable, "-m", "binomctl", "profile", "--device", str(device), "--json",
               "--force", "-o", str(folder / "fig4.svg")]  # fmt: skip
    command += ["--dataset", "sinusoid", "--estimators", "maml,binom", "--L", "1", "--seconds",
                "0.1"] if quick else ["--config", "fig4"]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU; --device cpu --quick tries the script without one")
    args.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "schema": "binomctl-benchmarks/gpu/1",
        "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "environment": environment(),
        "config": {"K": K, "L": L, "seed": 0, "tf32": False, "quick": args.quick},
    }
    parts: dict[str, Callable[[], Any]] = {
        "checks": lambda: checks(device, args.quick),
        "contestants": lambda: contestants(device, args.quick),
        "capture": lambda: capture(device, args.quick),
        "figure4": lambda: figure4(device, args.quick, args.out),
    }
    for name, part in parts.items():
        start = time.perf_counter()
        try:
            report[name] = part()
        except Exception as error:  # the other parts are worth having
            report[name] = {"error": f"{type(error).__name__}: {str(error)[:2000]}"}
        took = round(time.perf_counter() - start, 1)
        report.setdefault("seconds", {})[name] = took
        text = json.dumps(report, indent=1) + "\n"
        (args.out / "gpu.json").write_text(text, encoding="utf-8")
        print(f"{name}: {took} s {report[name].get('error', '')}", flush=True)


if __name__ == "__main__":
    main()
