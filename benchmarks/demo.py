"""What the README's demo takes: rendering, training, evaluation.

    python benchmarks/demo.py

Runs the commands of `make demo` as a user would, each in a process of its own, with an empty
cache of glyphs, on an otherwise idle machine. Writes benchmarks/results/demo.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from binomctl.machine.environment import environment

RESULT = Path(__file__).parent / "results" / "demo.json"
RENDER = """
import json, time, torch, numpy, matplotlib, PIL.ImageFont, fontTools.ttLib
from binomctl_datasets.glyphs import Glyphs
start = time.perf_counter(); Glyphs().episode("train", 0); first = time.perf_counter() - start
print(json.dumps(first))
"""


def run(*command: str, env: dict[str, str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return time.perf_counter() - start, done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "XDG_CACHE_HOME": folder}
        binomctl = [sys.executable, "-m", "binomctl"]
        rendered = [float(run(sys.executable, "-c", RENDER, env=env)[1]) for _ in range(2)]
        out = str(Path(folder) / "run")
        train_wall, train = run(
            *binomctl, "train", "--estimator", "binom", "--L", "2", "--out", out, "--json", env=env
        )
        eval_wall, test = run(*binomctl, "eval", out, "--json", env=env)
    report: dict[str, Any] = {
        "schema": "binomctl/demo/1",
        "environment": environment(),
        "glyphs_seconds": {"rendered": round(rendered[0], 3), "cached": round(rendered[1], 3)},
        "train": {**json.loads(train), "run": None, "wall_seconds": round(train_wall, 1)},
        "eval": {**json.loads(test), "run": None, "wall_seconds": round(eval_wall, 1)},
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
