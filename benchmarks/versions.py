"""Two versions of the package side by side: is a meta-gradient as fast as it was, and the same?

    git worktree add ../before COMMIT
    python benchmarks/versions.py ../before . [--rounds 6]

Worker processes of either version run in turn, round after round, one thread each; a worker takes
the median of its calls. Writes benchmarks/results/versions.json: medians, their spread over the
rounds, the ratio after / before and the relative difference of the meta-gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/versions.json"

WORKER = """
import json, statistics, sys, time
import torch
from torch import nn
from torch.nn import functional as F
import binomctl
from binomctl.models import build_model
torch.set_num_threads(1)

def case(name):
    torch.manual_seed(0)
    if name.startswith("mlp"):
        model = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(),
                              nn.Linear(40, 1))
        x = torch.randn(2, 25, 10, 1)
        y = torch.sin(3 * x)
        return model, F.mse_loss, (x[0], y[0], x[1], y[1]), 60
    model = build_model("conv4", {}, (1, 28, 28), 5, 0)
    y = torch.arange(15).remainder(5).repeat(4, 1)
    sets = (torch.randn(4, 5, 1, 28, 28), y[:, :5], torch.randn(4, 15, 1, 28, 28), y)
    return model, F.cross_entropy, sets, 6

out = {}
for name, options in json.loads(sys.argv[1]).items():
    model, loss, sets, calls = case(name)
    made = binomctl.MetaGradient(model, loss, K=5, alpha=0.05, **options)
    found = made(sets)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        made(sets)
        times.append(1e3 * (time.perf_counter() - start))
    flat = torch.cat([g.flatten() for g in found.values()]).double()
    out[name] = {"ms": statistics.median(times), "head": flat[:: max(1, len(flat) // 50)].tolist()}
print(json.dumps(out))
"""
CASES = {
    "mlp maml": {"estimator": "maml"},
    "mlp binom 2": {"estimator": "binom", "L": 2},
    "mlp fomaml": {"estimator": "fomaml"},
    "mlp maml autograd": {"estimator": "maml", "engine": "autograd"},
    "conv4 maml": {"estimator": "maml"},
    "conv4 binom 2": {"estimator": "binom", "L": 2},
}


def worker(tree: Path) -> dict[str, dict[str, object]]:
    paths = os.pathsep.join([str(tree), str(tree / "plugins")])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps(CASES)],
        env=env, capture_output=True, text=True, check=True, cwd=tree,
    )  # fmt: skip
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    trees = [tree.resolve() for tree in (args.before, args.after)]
    rounds = [[worker(tree) for tree in trees] for _ in range(args.rounds)]
    rows = {}
    for name in CASES:
        ms = [[float(pair[i][name]["ms"]) for pair in rounds] for i in (0, 1)]  # type: ignore[arg-type]
        one, two = (rounds[0][i][name]["head"] for i in (0, 1))
        size = sum(v * v for v in one) ** 0.5  # type: ignore[attr-defined]
        off = sum((a - b) ** 2 for a, b in zip(one, two, strict=True)) ** 0.5  # type: ignore[call-overload]
        ratios = sorted(after / before for before, after in zip(*ms, strict=True))
        rows[name] = {
            "before_ms": statistics.median(ms[0]),
            "after_ms": statistics.median(ms[1]),
            "ratio": statistics.median(ratios),
            "ratio_range": [ratios[0], ratios[-1]],
            "relative_difference": off / size,
        }
        print(name, json.dumps(rows[name]))
    from binomctl.machine.environment import environment

    commits = [
        subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=tree, capture_output=True, text=True, check=True
        ).stdout.strip()
        for tree in trees
    ]
    report = {
        "schema": "binomctl/benchmark-versions/1", "environment": environment(),
        "load_average": os.getloadavg(), "commits": commits, "rounds": args.rounds,
        "cases": CASES, "rows": rows,
    }  # fmt: skip
    RESULT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
