"""Where a deep network's meta-step goes: convolutions, matrix products, kernels, everything else.

    python benchmarks/shares.py

Exact MAML on one task in one thread: the time inside of torch's convolutions, matrix products and
other operations (torch.profiler), of our kernels (cProfile), and the rest, which is Python's.
Writes benchmarks/results/shares.json and docs/speed.md's table.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import re
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from contestants import WORKLOADS, Case
from pages import put
from torch.profiler import ProfilerActivity, profile

from binomctl.machine.allocator import tune_allocator
from binomctl.machine.environment import environment

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks/results/shares.json", ROOT / "docs/speed.md"
ROUNDS = 3
DEEP = ("ResNet12 (16", "WRN", "Transformer", "ViT")
KINDS = {"convolutions": r"conv", "matrix products": r"::(b|add|badd)?b?mm", "other operations": ""}
"""Operations of torch, by their names; the first that fits."""
COLUMNS = [*KINDS, "kernels", "Python"]


def shares(name: str) -> dict[str, float]:
    """Of a step's time, by kind; Python is what nothing else is."""
    case = Case(WORKLOADS[name] | {"B": 1})
    step = case.ours(case.fast(), "maml")
    step()
    spent = operations(step) | {"kernels": in_kernels(step)}
    whole = max(min(timeit.repeat(step, number=1, repeat=ROUNDS)), sum(spent.values()))
    spent["Python"] = whole - sum(spent.values())
    return {kind: round(spent[kind] / whole, 3) for kind in COLUMNS}


def operations(step: Callable[[], Any]) -> dict[str, float]:
    """Seconds of a step in torch's operations, by kind, as torch.profiler has them."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    spent = dict.fromkeys(KINDS, 0.0)
    for one in seen.key_averages():
        if one.key.startswith("aten::"):
            kind = next(kind for kind, pattern in KINDS.items() if re.search(pattern, one.key))
            spent[kind] += one.self_cpu_time_total / 1e6
    return spent


def in_kernels(step: Callable[[], Any]) -> float:
    """Seconds of a step in our kernels, which torch.profiler does not see."""
    seen = cProfile.Profile()
    seen.enable()
    step()
    seen.disable()
    found: Any = pstats.Stats(seen)
    return sum(row[2] for (file, _, _), row in found.stats.items() if file.endswith("native.py"))


def table(report: dict[str, Any]) -> str:
    lines = [f"| network | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for name, found in report["networks"].items():
        cells = " | ".join(f"{found[kind]:.0%}" for kind in COLUMNS)
        lines.append(f"| {re.split(r', (?=1-shot)', name)[0]} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    tune_allocator()
    names = [name for start in DEEP for name in WORKLOADS if name.startswith(start)]
    report = {
        "schema": "binomctl-benchmarks/shares/1", "command": "python benchmarks/shares.py",
        "environment": environment(), "rounds": ROUNDS,
        "networks": {name: shares(name) for name in names},
    }  # fmt: skip
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    put(PAGE, "shares", table(report))
    print(table(report))


if __name__ == "__main__":
    main()
