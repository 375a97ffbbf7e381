"""What `make test` takes, on an otherwise idle machine.

    python benchmarks/suite.py

Runs the README's test command once, which must pass. Writes benchmarks/results/suite.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from binomctl.machine.environment import environment

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "suite.json"


def main() -> None:
    began = time.perf_counter()
    done = subprocess.run(["make", "test"], cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    closing = done.stdout.strip().splitlines()[-1]
    if done.returncode:
        sys.exit(f"{done.stdout[-3000:]}{done.stderr[-3000:]}")
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|skipped)", closing)}
    report = {
        "schema": "binomctl/suite/1",
        "environment": environment(),
        "seconds": round(seconds),
        **counts,
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(closing)


if __name__ == "__main__":
    main()
