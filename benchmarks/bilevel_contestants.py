"""Hyper-cleaning as benchmarks/bilevel.py has it, and whoever computes its hypergradient."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.training.step import step_function

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


def timed(compute: Callable[[Tensor], Tensor]) -> Gradient:
    def run(w: Tensor) -> tuple[Tensor, float]:
        start = time.perf_counter()
        found = compute(w)
        return found.detach().clone(), time.perf_counter() - start

    return run


def ours(task: Task, estimator: str, **options: Any) -> Gradient:
    """The meta-step of `train --problem hyper-cleaning`, its data placed."""
    overrides = {"estimator.name": estimator} | {f"estimator.{k}": v for k, v in options.items()}
    problem = build_problem(load_config(overrides=OVERRIDES | overrides)[0])
    step, layout = step_function(problem), problem.engine.layout

    def compute(w: Tensor) -> Tensor:
        named = layout.unflatten(problem.theta) | {"outer_weight": w}
        found = step(layout.flatten(named), problem.m, task.batch).per_task[0][0]
        return layout.unflatten(found)["outer_weight"]

    return timed(compute)


def stepped(
    task: Task, phi: dict[str, Tensor], w: Tensor, model: nn.Module, graph: bool
) -> dict[str, Tensor]:
    loss = task.inner(functional_call(model, phi, (task.x,)), w)
    slopes = torch.autograd.grad(loss, list(phi.values()), create_graph=graph)
    return {n: p - ALPHA * s for (n, p), s in zip(phi.items(), slopes, strict=True)}


def leaves(phi: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: p.detach().requires_grad_() for n, p in phi.items()}


def reverse(task: Task) -> Gradient:
    """Reverse mode through the whole inner loop, plain torch."""
    model = task.network()

    def compute(w: Tensor) -> Tensor:
        w = w.clone().requires_grad_()
        phi = leaves(task.phi)
        for _ in range(K):
            phi = stepped(task, phi, w, model, graph=True)
        return torch.autograd.grad(task.outer(functional_call(model, phi, (task.x_val,))), w)[0]

    return timed(compute)


def implicit(task: Task, solver: str) -> Gradient:
    """The implicit function theorem at phi^K, in terms of the fixed-point map as Grazzi et al. 2020
    write it, plain torch: fixed point (Neumann) or conjugate gradients."""
    model = task.network()

    def compute(w: Tensor) -> Tensor:
        phi = leaves(task.phi)
        for _ in range(K):
            phi = leaves(stepped(task, phi, w, model, graph=False))
        w = w.clone().requires_grad_()
        mapped = list(stepped(task, phi, w, model, graph=True).values())
        values = list(phi.values())
        g = torch.autograd.grad(task.outer(functional_call(model, phi, (task.x_val,))), values)

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


def torchopt_unrolled(task: Task) -> Gradient:
    import torchopt

    model = task.network()
    optimizer = torchopt.MetaSGD(model, lr=ALPHA)
    kept = [torchopt.extract_state_dict(part, by="copy") for part in (model, optimizer)]

    def compute(w: Tensor) -> Tensor:
        w = w.clone().requires_grad_()
        for part, state in zip((model, optimizer), kept, strict=True):
            torchopt.recover_state_dict(part, state)
        for _ in range(K):
            optimizer.step(task.inner(model(task.x), w))
        return torch.autograd.grad(task.outer(model(task.x_val)), w)[0]

    return timed(compute)


def torchopt_implicit(task: Task) -> Gradient:
    import torchopt

    model = task.network()
    names = list(task.phi)

    def optimality(phi: tuple[Tensor, ...], w: Tensor) -> Any:
        def loss(phi: tuple[Tensor, ...]) -> Tensor:
            named = dict(zip(names, phi, strict=True))
            return task.inner(functional_call(model, named, (task.x,)), w)

        return torch.func.grad(loss)(phi)

    @torchopt.diff.implicit.custom_root(  # type: ignore[untyped-decorator]
        optimality, argnums=1, solve=torchopt.linear_solve.solve_cg(maxiter=SOLVES, atol=0.0)
    )
    def solve(phi: tuple[Tensor, ...], w: Tensor) -> tuple[Tensor, ...]:
        named = leaves(dict(zip(names, phi, strict=True)))
        with torch.enable_grad():
            for _ in range(K):
                named = leaves(stepped(task, named, w, model, graph=False))
        return tuple(named.values())

    def compute(w: Tensor) -> Tensor:
        w = w.clone().requires_grad_()
        phi = dict(zip(names, solve(tuple(leaves(task.phi).values()), w), strict=True))
        return torch.autograd.grad(task.outer(functional_call(model, phi, (task.x_val,))), w)[0]

    return timed(compute)


class Weights(nn.Module):
    """The outer variables as BOAT wants them."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(n))


def _called(model: Any, x: Tensor, params: Any) -> Tensor:
    out: Tensor = model(x) if params is None else model(x, params=params)
    return out


def boat_inner(feed: Any, upper: Weights, lower: Any, params: Any = None) -> Tensor:
    """The inner loss under BOAT's signature."""
    return feed["task"].inner(_called(lower, feed["x"], params), upper.w)


def boat_outer(feed: Any, upper: Weights, lower: Any, params: Any = None) -> Tensor:
    """The outer loss under BOAT's signature."""
    return feed["task"].outer(_called(lower, feed["x"], params))


def boat(task: Task, method: str) -> Gradient:
    """BOAT's own clock: what it does after the hypergradient is left out."""
    import boat_torch

    lower, upper = task.network(), Weights(task.n)
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

    feeds = [{"x": x, "task": task} for x in (task.x, task.x_val)]

    def run(w: Tensor) -> tuple[Tensor, float]:
        with torch.no_grad():
            upper.w.copy_(w)
        upper.w.grad = None
        (found,), seconds = solver.run_iter(feeds[0], feeds[1], 0)
        return found.detach().clone(), seconds

    return run


def order(L: int) -> int:
    """Products of BinomMAML of order L."""
    return L * (K - L + 1)


CONTESTANTS: dict[str, tuple[Callable[[Task], Gradient], int]] = {
    "ours, exact": (lambda task: ours(task, "maml"), K),
    "ours, binom L = 2": (lambda task: ours(task, "binom", L=2), order(2)),
    "ours, trunc L = 10": (lambda task: ours(task, "trunc", L=10), 10),
    "ours, head m = 10": (lambda task: ours(task, "head", m=10), 10),
    f"ours, implicit CG {SOLVES}": (lambda task: ours(task, "implicit", L=SOLVES), SOLVES + 1),
    "plain torch, reverse mode": (reverse, K),
    f"plain torch, implicit CG {SOLVES}": (lambda task: implicit(task, "cg"), SOLVES + 1),
    f"plain torch, implicit Neumann {SOLVES}": (lambda task: implicit(task, "neumann"), SOLVES + 1),
    "TorchOpt, unrolled": (torchopt_unrolled, K),
    f"TorchOpt, implicit CG {SOLVES}": (torchopt_implicit, SOLVES + 1),
    "BOAT, reverse mode (RAD)": (lambda task: boat(task, "RAD"), K),
    f"BOAT, implicit CG {SOLVES}": (lambda task: boat(task, "CG"), SOLVES + 1),
    f"BOAT, implicit Neumann {SOLVES}": (lambda task: boat(task, "NS"), SOLVES + 1),
}
"""How each is made, and its Hessian-vector products (mixed ones included) a hypergradient."""
