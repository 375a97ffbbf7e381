"""Hyper-cleaning with ours and with other libraries: outer loss against seconds and products.

    pip install torchopt boat-torch higher
    python benchmarks/bilevel.py

Scikit-learn's digits, 300 training images of which half have a wrong label, a weight for each; a
perceptron 64-32-10 trained for K = 30 steps of size 1 from the same weights by everybody; Adam at
0.1 outside. Contestants take their outer steps in turn, in an order that rotates, so that what
disturbs the machine meets all; only their hypergradient is timed. Gradients are compared at the
start.
Contestants whose package is missing are left out and named.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from bilevel_contestants import CONTESTANTS, LR, OVERRIDES, Gradient, K, Task, leaves, stepped
from pages import put
from torch import Tensor
from torch.func import functional_call

from binomctl.machine.environment import environment
from binomctl.reporting.figures import new_figure, save, style

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/bilevel.json"
PAGE, FIGURE = ROOT / "docs/bilevel.md", ROOT / "docs/figures/bilevel.svg"


def held_out(task: Task, w: Tensor) -> float:
    """The outer loss after the inner loop under weights w."""
    model, phi = task.network(), leaves(task.phi)
    for _ in range(K):
        phi = leaves(stepped(task, phi, w, model, graph=False))
    with torch.no_grad():
        return float(task.outer(functional_call(model, phi, (task.x_val,))))


def run(task: Task, steps: int) -> tuple[dict[str, Any], list[str]]:
    """Everybody's outer loop, in turn."""
    made: dict[str, Gradient] = {}
    missing = []
    for name, (make, _) in CONTESTANTS.items():
        try:
            made[name] = make(task)
        except ImportError as error:
            missing.append(f"{name}: {error}")
    start = torch.zeros(task.n)
    for gradient in made.values():
        gradient(start)  # what is made at the first call
    exact = made["plain torch, reverse mode"](start)[0]
    weights = {name: start.clone().requires_grad_() for name in made}
    optimizers = {name: torch.optim.Adam([w], lr=LR) for name, w in weights.items()}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    losses = {name: [held_out(task, start)] for name in made}
    first = {name: made[name](start)[0] for name in made}
    names = list(made)
    for t in range(steps):
        for name in names[t % len(names) :] + names[: t % len(names)]:
            w = weights[name]
            w.grad, took = made[name](w.detach())
            optimizers[name].step()
            seconds[name].append(took)
            losses[name].append(held_out(task, w.detach()))
    reference = seconds["ours, exact"]
    rows = {}
    for name in names:
        ratios = [a / b for a, b in zip(seconds[name], reference, strict=True)]
        quarters = statistics.quantiles(ratios, n=4)
        rows[name] = {
            "products": CONTESTANTS[name][1],
            "milliseconds": 1e3 * statistics.median(seconds[name]),
            "ratio": statistics.median(ratios), "ratio_quartiles": [quarters[0], quarters[2]],
            "error_at_start": float((first[name] - exact).norm() / exact.norm()),
            "losses": losses[name], "seconds": seconds[name],
        }  # fmt: skip
    return rows, missing


def draw(rows: dict[str, Any]) -> None:
    """Outer loss against seconds and against products."""
    figure = new_figure(9.2, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    colours = {"ours": "#0072B2", "plain": "#000000", "Torch": "#C84E00", "BOAT,": "#00805D"}
    lines, seen = ["-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1))], dict.fromkeys(colours, 0)
    for name, row in rows.items():
        who = name[:5].strip() if name[:4] != "ours" else "ours"
        how = {"color": colours[who], "linestyle": lines[seen[who]], "linewidth": 1.3}
        seen[who] += 1
        at = [0.0]
        for s in row["seconds"]:
            at.append(at[-1] + s)
        products = [i * row["products"] for i in range(len(at))]
        left.plot(at, row["losses"], label=name, **how)
        right.plot(products, row["losses"], **how)
    style(left, "against seconds of hypergradients", "seconds", "outer loss (clean examples)")
    style(right, "against Hessian-vector products", "products")
    for axis in (left, right):
        axis.set_xscale("log")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    save(figure, FIGURE)


def table(rows: dict[str, Any]) -> str:
    """Markdown."""
    out = ["| | products | time of ours, exact (quartiles) | gradient's error at the start |"
           " outer loss after all steps |", "|---|---|---|---|---|"]  # fmt: skip
    for name, row in rows.items():
        low, high = row["ratio_quartiles"]
        error = row["error_at_start"]
        said = "exact" if error < 1e-4 else f"{error:.2g}"
        out.append(f"| {name} | {row['products']} | {row['ratio']:.2f} ({low:.2f}, {high:.2f})"
                   f" | {said} | {row['losses'][-1]:.4f} |")  # fmt: skip
    return "\n".join(out)


def main() -> None:
    """Run, keep, draw, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--dry", action="store_true", help="write nothing")
    given = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows, missing = run(Task(), given.steps)
    for line in [table(rows), *missing]:
        print(line)
    if given.dry:
        return
    record = {
        "schema": "binomctl-benchmarks/bilevel/1",
        "command": f"python benchmarks/bilevel.py --steps {given.steps}",
        "environment": environment(), "config": OVERRIDES, "seed": 0, "threads": 1, "lr": LR,
        "missing": missing, "rows": rows,
    }  # fmt: skip
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(rows)
    put(PAGE, "peers", table(rows))


if __name__ == "__main__":
    main()
