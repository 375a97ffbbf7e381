"""A run that is killed again and again, against the one that was not; and what checkpoints cost.

    python benchmarks/soak.py [--kills 50]

Two trainings of the sinusoid from one configuration, once unbroken; once ended by SIGKILL at random
moments and resumed each time, then the same ended by SIGTERM once. All three must end in the same
bits: model, optimiser, generators, and every line of metrics.jsonl but its seconds. The cost of
checkpoints is the time inside saves over the time of a training of Conv4 on glyphs with one every
50 steps. Writes benchmarks/results/soak.json.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faults.runs import last, reaches, records, started, tensors  # noqa: E402

from binomctl.machine.environment import environment  # noqa: E402

RESULT = ROOT / "benchmarks/results/soak.json"
STEPS = 4000
HOW = ["--dataset", "sinusoid", "--estimator", "binom", "--L", "2", "--steps", str(STEPS)]
for setting in ("training.checkpoint_every=10", "training.validate_every=500",
                "training.validation_tasks=10", "training.log_every=1"):  # fmt: skip
    HOW += ["--set", setting]
SEED = 0


def killed(run: Path, kills: int, moments: random.Random) -> list[int]:
    """Kill and resume until so many have died; the last logged step at each end."""
    ends = []
    while len(ends) < kills:
        process = started(*HOW, "--out", run, "--resume", "auto")
        reaches(run, last(run) + 1, process)
        time.sleep(moments.uniform(0, 0.6))
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"the run was over after {len(ends)} kills: give it more steps")
        ends.append(last(run))
        print(f"kill {len(ends)}: step {ends[-1]}", flush=True)
    finish(run)
    return ends


def finish(run: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "binomctl",
        "train",
        *HOW,
        "--out",
        str(run),
        "--resume",
        "auto",
    ]
    subprocess.run(command, check=True, capture_output=True)


def terminated(run: Path) -> int:
    process = started(*HOW, "--out", run)
    reaches(run, STEPS // 3, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    code = process.returncode
    finish(run)
    return code


def same(one: Path, two: Path) -> dict[str, bool]:
    model, state = (a == b for a, b in zip(tensors(one, STEPS), tensors(two, STEPS), strict=True))
    return {"model": model, "state": state, "metrics": records(one) == records(two)}


def overhead(folder: Path) -> dict[str, Any]:
    """Seconds inside saves, and of the whole training, of Conv4 on glyphs."""
    from binomctl.runs.saved import Saved
    from binomctl.settings.layers import load_config
    from binomctl.training import run as training
    from binomctl.training.opening import checked, new

    spent: list[float] = []
    inner = Saved.save

    def timed(*args: Any, **options: Any) -> None:
        start = time.perf_counter()
        inner(*args, **options)
        spent.append(time.perf_counter() - start)

    class Quiet:
        def on_step(self, step: Any, seconds: float) -> None: ...
        def on_validation(self, step: int, value: Any, best: bool) -> None: ...

    overrides = {"training.steps": 300, "training.checkpoint_every": 50,
                 "training.validate_every": 300}  # fmt: skip
    problem = checked(load_config(overrides=overrides)[0])
    Saved.save = timed  # type: ignore[method-assign]
    try:
        with new(problem, folder / "glyphs").run as run:
            start = time.perf_counter()
            training.train(problem, run, Quiet())
            whole = time.perf_counter() - start
    finally:
        Saved.save = inner  # type: ignore[method-assign]
    return {"config": overrides, "saves": len(spent), "save_seconds": sum(spent),
            "train_seconds": whole, "share": sum(spent) / whole}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cost = overhead(root)
        print(cost, flush=True)
        finish(root / "unbroken")
        ends = killed(root / "killed", kills, random.Random(SEED))
        code = terminated(root / "terminated")
        report = {
            "schema": "binomctl/soak/1",
            "environment": environment(),
            "config": HOW,
            "seed": SEED,
            "steps": STEPS,
            "kills": len(ends),
            "killed_after_steps": ends,
            "killed_same": same(root / "killed", root / "unbroken"),
            "sigterm_exit": code,
            "sigterm_same": same(root / "terminated", root / "unbroken"),
            "checkpoints": cost,
        }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({k: report[k] for k in ("kills", "killed_same", "sigterm_same")}))


if __name__ == "__main__":
    main()
