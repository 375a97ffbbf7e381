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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pages import put
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from binomctl.machine.environment import environment
from binomctl.problem.build import build_problem
from binomctl.reporting.figures import new_figure, save, style
from binomctl.settings.layers import load_config
from binomctl.training.step import step_function

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/bilevel.json"
PAGE, FIGURE = ROOT / "docs/bilevel.md", ROOT / "docs/figures/bilevel.svg"
K, ALPHA, LR, SOLVES = 30, 1.0, 0.1, 10
OVERRIDES = {
    "dataset.name": "hyper-cleaning", "dataset.data": "digits", "dataset.ways": 10,
    "dataset.shots": 30, "dataset.queries": 40, "adaptation.K": K, "adaptation.alpha": ALPHA,
}  # fmt: skip
Gradient = Callable[[Tensor], tuple[Tensor, float]]
"""w [N] -> the hypergradient [N] and the seconds it took."""


class Task:
    """The data, the network and its initial weights, from the problem as `train` builds it."""

    def __init__(self) -> None:
        self.problem = build_problem(load_config(overrides=OVERRIDES)[0])
        self.batch = self.problem.training_batch(range(1))
        self.x, self.x_val = (t[0].flatten(1) for t in (self.batch.x_trn, self.batch.x_val))
        self.y, self.y_val = self.batch.y_trn[0] % 10, self.batch.y_val[0]
        named = self.problem.engine.layout.unflatten(self.problem.theta)
        self.phi = {n.replace("1.", "0.", 1).replace("3.", "2.", 1): v.clone()
                    for n, v in named.items() if not n.startswith("outer_")}  # fmt: skip
        self.n = len(self.y)

    def network(self) -> nn.Sequential:
        """A module of plain torch with the initial weights."""
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        model.load_state_dict(self.phi)
        return model

    def inner(self, logits: Tensor, w: Tensor) -> Tensor:
        return (torch.sigmoid(w) * F.cross_entropy(logits, self.y, reduction="none")).mean()

    def outer(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, self.y_val)


TASK: Task


def timed(compute: Callable[[Tensor], Tensor]) -> Gradient:
    def run(w: Tensor) -> tuple[Tensor, float]:
        start = time.perf_counter()
        found = compute(w)
        return found.detach().clone(), time.perf_counter() - start

    return run


def ours(estimator: str, **options: Any) -> Gradient:
    """The meta-step of `train --problem hyper-cleaning`, its data placed."""
    overrides = {"estimator.name": estimator} | {f"estimator.{k}": v for k, v in options.items()}
    problem = build_problem(load_config(overrides=OVERRIDES | overrides)[0])
    step, layout = step_function(problem), problem.engine.layout

    def compute(w: Tensor) -> Tensor:
        named = layout.unflatten(problem.theta) | {"outer_weight": w}
        found = step(layout.flatten(named), problem.m, TASK.batch).per_task[0][0]
        return layout.unflatten(found)["outer_weight"]

    return timed(compute)


def stepped(phi: dict[str, Tensor], w: Tensor, model: nn.Module, graph: bool) -> dict[str, Tensor]:
    loss = TASK.inner(functional_call(model, phi, (TASK.x,)), w)
    slopes = torch.autograd.grad(loss, list(phi.values()), create_graph=graph)
    return {n: p - ALPHA * s for (n, p), s in zip(phi.items(), slopes, strict=True)}


def leaves(phi: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: p.detach().requires_grad_() for n, p in phi.items()}


def reverse() -> Gradient:
    """Reverse mode through the whole inner loop, plain torch."""
    model = TASK.network()

    def compute(w: Tensor) -> Tensor:
        w = w.clone().requires_grad_()
        phi = leaves(TASK.phi)
        for _ in range(K):
            phi = stepped(phi, w, model, graph=True)
        return torch.autograd.grad(TASK.outer(functional_call(model, phi, (TASK.x_val,))), w)[0]

    return timed(compute)


def implicit(solver: str) -> Gradient:
    """The implicit function theorem at phi^K, in terms of the fixed-point map as Grazzi et al. 2020
    write it, plain torch: fixed point (Neumann) or conjugate gradients."""
    model = TASK.network()

    def compute(w: Tensor) -> Tensor:
        phi = leaves(TASK.phi)
        for _ in range(K):
            phi = leaves(stepped(phi, w, model, graph=False))
        w = w.clone().requires_grad_()
        mapped = list(stepped(phi, w, model, graph=True).values())
        values = list(phi.values())
        g = torch.autograd.grad(TASK.outer(functional_call(model, phi, (TASK.x_val,))), values)

        def pulled(v: list[Tensor]) -> list[Tensor]:
            return list(torch.autograd.grad(mapped, values, v, retain_graph=True))

        if solver == "neumann":
            v = list(g)
            for _ in range(SOLVES):
                v = [a + b for a, b in zip(pulled(v), g, strict=True)]
        else:
            v = solved(lambda p: [a - b for a, b in zip(p, pulled(p), strict=True)], list(g))
        return torch.autograd.grad(mapped, w, v)[0]

    return timed(compute)


def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def solved(apply: Callable[[list[Tensor]], list[Tensor]], g: list[Tensor]) -> list[Tensor]:
    """Conjugate gradients from zero."""
    x, r, p = [torch.zeros_like(t) for t in g], g, g
    rr = dot(r, r)
    for _ in range(SOLVES):
        Ap = apply(p)
        a = rr / dot(p, Ap)
        x = [u + a * v for u, v in zip(x, p, strict=True)]
        r = [u - a * v for u, v in zip(r, Ap, strict=True)]
        new = dot(r, r)
        p = [u + new / rr * v for u, v in zip(r, p, strict=True)]
        rr = new
    return x


def torchopt_unrolled() -> Gradient:
    import torchopt

    model = TASK.network()
    optimizer = torchopt.MetaSGD(model, lr=ALPHA)
    kept = [torchopt.extract_state_dict(part, by="copy") for part in (model, optimizer)]

    def compute(w: Tensor) -> Tensor:
        w = w.clone().requires_grad_()
        for part, state in zip((model, optimizer), kept, strict=True):
            torchopt.recover_state_dict(part, state)
        for _ in range(K):
            optimizer.step(TASK.inner(model(TASK.x), w))
        return torch.autograd.grad(TASK.outer(model(TASK.x_val)), w)[0]

    return timed(compute)


def torchopt_implicit() -> Gradient:
    import torchopt

    model = TASK.network()
    names = list(TASK.phi)

    def optimality(phi: tuple[Tensor, ...], w: Tensor) -> Any:
        def loss(phi: tuple[Tensor, ...]) -> Tensor:
            named = dict(zip(names, phi, strict=True))
            return TASK.inner(functional_call(model, named, (TASK.x,)), w)

        return torch.func.grad(loss)(phi)

    @torchopt.diff.implicit.custom_root(  # type: ignore[untyped-decorator]
        optimality, argnums=1, solve=torchopt.linear_solve.solve_cg(maxiter=SOLVES, atol=0.0)
    )
    def solve(phi: tuple[Tensor, ...], w: Tensor) -> tuple[Tensor, ...]:
        named = leaves(dict(zip(names, phi, strict=True)))
        with torch.enable_grad():
            for _ in range(K):
                named = leaves(stepped(named, w, model, graph=False))
        return tuple(named.values())

    def compute(w: Tensor) -> Tensor:
        w = w.clone().requires_grad_()
        phi = dict(zip(names, solve(tuple(leaves(TASK.phi).values()), w), strict=True))
        return torch.autograd.grad(TASK.outer(functional_call(model, phi, (TASK.x_val,))), w)[0]

    return timed(compute)


class Weights(nn.Module):
    """The outer variables as BOAT wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(TASK.n))


def _called(model: Any, x: Tensor, params: Any) -> Tensor:
    out: Tensor = model(x) if params is None else model(x, params=params)
    return out


def boat_inner(feed: Any, upper: Weights, lower: Any, params: Any = None) -> Tensor:
    """The inner loss under BOAT's signature."""
    return TASK.inner(_called(lower, feed["x"], params), upper.w)


def boat_outer(feed: Any, upper: Weights, lower: Any, params: Any = None) -> Tensor:
    """The outer loss under BOAT's signature."""
    return TASK.outer(_called(lower, feed["x"], params))


def boat(method: str) -> Gradient:
    """BOAT's own clock: what it does after the hypergradient is left out."""
    import boat_torch

    lower, upper = TASK.network(), Weights()
    folder = tempfile.mkdtemp()
    config = {
        "fo_op": None, "gm_op": ["NGD"], "na_op": [method], "lower_level_model": lower,
        "upper_level_model": upper, "lower_level_var": list(lower.parameters()),
        "upper_level_var": list(upper.parameters()),
        "lower_level_opt": torch.optim.SGD(lower.parameters(), lr=ALPHA),
        "upper_level_opt": torch.optim.Adam(upper.parameters(), lr=LR),
        "device": "cpu", "lower_iters": K, "loss_log_path": f"{folder}/log.json",
        "accumulate_grad": False, "copy_last_param": False, "return_grad": True,
        "GDA": {"alpha_init": 0.0, "alpha_decay": 1.0}, "RGT": {"truncate_iter": 0},
        "CG": {"tolerance": 0.0, "k": SOLVES}, "NS": {"tolerance": 0.0, "k": SOLVES},
    }  # fmt: skip
    losses = {f"{level}_level_loss": {"function": f"{__name__}.boat_{name}"}
              for level, name in (("lower", "inner"), ("upper", "outer"))}  # fmt: skip
    solver = boat_torch.Problem(config, losses).build_ll_solver().build_ul_solver()

    def run(w: Tensor) -> tuple[Tensor, float]:
        with torch.no_grad():
            upper.w.copy_(w)
        upper.w.grad = None
        (found,), seconds = solver.run_iter({"x": TASK.x}, {"x": TASK.x_val}, 0)
        return found.detach().clone(), seconds

    return run


def order(L: int) -> int:
    """Products of BinomMAML of order L."""
    return L * (K - L + 1)


CONTESTANTS: dict[str, tuple[Callable[[], Gradient], int]] = {
    "ours, exact": (lambda: ours("maml"), K),
    "ours, binom L = 2": (lambda: ours("binom", L=2), order(2)),
    "ours, trunc L = 10": (lambda: ours("trunc", L=10), 10),
    "ours, head m = 10": (lambda: ours("head", m=10), 10),
    f"ours, implicit CG {SOLVES}": (lambda: ours("implicit", L=SOLVES), SOLVES + 1),
    "plain torch, reverse mode": (reverse, K),
    f"plain torch, implicit CG {SOLVES}": (lambda: implicit("cg"), SOLVES + 1),
    f"plain torch, implicit Neumann {SOLVES}": (lambda: implicit("neumann"), SOLVES + 1),
    "TorchOpt, unrolled": (torchopt_unrolled, K),
    f"TorchOpt, implicit CG {SOLVES}": (torchopt_implicit, SOLVES + 1),
    "BOAT, reverse mode (RAD)": (lambda: boat("RAD"), K),
    f"BOAT, implicit CG {SOLVES}": (lambda: boat("CG"), SOLVES + 1),
    f"BOAT, implicit Neumann {SOLVES}": (lambda: boat("NS"), SOLVES + 1),
}
"""How each is made, and its Hessian-vector products (mixed ones included) a hypergradient."""


def held_out(w: Tensor) -> float:
    """The outer loss after the inner loop under weights w."""
    model, phi = TASK.network(), leaves(TASK.phi)
    for _ in range(K):
        phi = leaves(stepped(phi, w, model, graph=False))
    with torch.no_grad():
        return float(TASK.outer(functional_call(model, phi, (TASK.x_val,))))


def run(steps: int) -> tuple[dict[str, Any], list[str]]:
    """Everybody's outer loop, in turn."""
    made: dict[str, Gradient] = {}
    missing = []
    for name, (make, _) in CONTESTANTS.items():
        try:
            made[name] = make()
        except ImportError as error:
            missing.append(f"{name}: {error}")
    start = torch.zeros(TASK.n)
    for gradient in made.values():
        gradient(start)  # what is made at the first call
    exact = made["plain torch, reverse mode"](start)[0]
    weights = {name: start.clone().requires_grad_() for name in made}
    optimizers = {name: torch.optim.Adam([w], lr=LR) for name, w in weights.items()}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    losses = {name: [held_out(start)] for name in made}
    first = {name: made[name](start)[0] for name in made}
    names = list(made)
    for t in range(steps):
        for name in names[t % len(names) :] + names[: t % len(names)]:
            w = weights[name]
            w.grad, took = made[name](w.detach())
            optimizers[name].step()
            seconds[name].append(took)
            losses[name].append(held_out(w.detach()))
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
    global TASK
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--dry", action="store_true", help="write nothing")
    given = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    TASK = Task()
    rows, missing = run(given.steps)
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
    import bilevel  # under its own name: BOAT imports losses by theirs

    bilevel.main()
