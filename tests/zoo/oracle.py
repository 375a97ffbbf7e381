"""Meta-gradients by plain double backward, one task after another.

Nothing of the product is used here: the inner loop is torch.func.functional_call and
torch.autograd.grad, and every estimator is its defining sum or product, written out.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo.entry import Entry, Episodes, mapped

Vector = list[Tensor]
ESTIMATORS: dict[str, tuple[str, dict[str, int]]] = {
    "maml": ("maml", {}),
    "fomaml": ("fomaml", {}),
    "trunc1": ("trunc", {"L": 1}),
    "binom1": ("binom", {"L": 1}),
    "binom2": ("binom", {"L": 2}),
}
"""Label -> the product's name and options."""


def oracle(
    entry: Entry, labels: tuple[str, ...] = tuple(ESTIMATORS), episodes: Episodes | None = None
) -> dict[str, dict[str, Tensor]]:
    """Per estimator, the mean over the tasks of the gradients by parameter name."""
    with sdpa_kernel(SDPBackend.MATH):
        tasks = [task.estimates(labels) for task in tasks_of(entry, episodes)]
    return {
        label: {name: (tasks[0][label][name] + tasks[1][label][name]) / 2 for name in names}
        for label, names in tasks[0].items()
    }


def tasks_of(entry: Entry, episodes: Episodes | None = None) -> list[Task]:
    """The plain loop of each of the two tasks, ready to run."""
    whole = entry.episodes() if episodes is None else episodes
    return [
        Task(entry, *(mapped(lambda tensor, b=b: tensor[b], part) for part in whole))
        for b in range(2)
    ]


class Task:
    """The plain loop on one task."""

    def __init__(self, entry: Entry, x_trn: Any, y_trn: Any, x_val: Any, y_val: Any) -> None:
        self.entry, self.model = entry, entry.build_plain()
        self.trn, self.val = (x_trn, y_trn), (x_val, y_val)
        trainable = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in trainable]
        self.start = [p.detach().clone() for _, p in trainable]
        self.buffers = {n: b.detach().clone() for n, b in self.model.named_buffers()}

    def loss(self, values: Vector, data: tuple[Any, Any]) -> Tensor:
        x, y = data
        state = dict(zip(self.names, values, strict=True))
        fresh = {n: b.clone() for n, b in self.buffers.items()}
        args = x if isinstance(x, tuple) else () if isinstance(x, dict) else (x,)
        named = x if isinstance(x, dict) else {}
        prediction = functional_call(self.model, {**fresh, **state}, args, named)
        loss = self.entry.twin_loss or self.entry.loss
        return loss(prediction, y, state) if self.entry.with_parameters else loss(prediction, y)

    def gradient(self, values: Vector, data: tuple[Any, Any], graph: bool) -> Vector:
        loss = self.loss(values, data)
        found = torch.autograd.grad(loss, values, create_graph=graph, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(values, found, strict=True)]

    def estimates(self, labels: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
        out: dict[str, Vector] = {}
        if "maml" in labels:
            out["maml"] = self.unrolled()
        others = [label for label in labels if label != "maml"]
        if others:
            K, alpha = self.entry.K, self.entry.alpha
            phi, H = self.start, []
            for _ in range(K):
                leaves = [p.detach().requires_grad_() for p in phi]
                slope = self.gradient(leaves, self.trn, graph=True)
                H.append(_products(leaves, slope))
                phi = [p - alpha * s.detach() for p, s in zip(phi, slope, strict=True)]
            leaves = [p.detach().requires_grad_() for p in phi]
            g = [part.detach() for part in self.gradient(leaves, self.val, graph=False)]
            for label in others:
                name, options = ESTIMATORS[label]
                out[label] = _FORMULAS[name](H, g, alpha, **options)
        return {k: dict(zip(self.names, v, strict=True)) for k, v in out.items()}

    def unrolled(self) -> Vector:
        """MAML: backward through the whole adaptation."""
        theta = [p.clone().requires_grad_() for p in self.start]
        phi: Vector = list(theta)
        for _ in range(self.entry.K):
            slope = self.gradient(phi, self.trn, graph=True)
            phi = [p - self.entry.alpha * s for p, s in zip(phi, slope, strict=True)]
        loss = self.loss(phi, self.val)
        found = torch.autograd.grad(loss, theta, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(theta, found, strict=True)]


Product = Callable[[Vector], Vector]


def _products(leaves: Vector, slope: Vector) -> Product:
    """v -> the vector-Jacobian product of the gradient."""
    curved = [i for i, s in enumerate(slope) if s.requires_grad]

    def product(v: Vector) -> Vector:
        if not curved:
            return [torch.zeros_like(p) for p in leaves]
        found = torch.autograd.grad(
            [slope[i] for i in curved],
            leaves,
            [v[i] for i in curved],
            retain_graph=True,
            allow_unused=True,
        )
        return [torch.zeros_like(p) if h is None else h for p, h in zip(leaves, found, strict=True)]

    return product


def _fomaml(H: list[Product], g: Vector, alpha: float) -> Vector:
    return g


def _trunc(H: list[Product], g: Vector, alpha: float, L: int) -> Vector:
    v = g
    for product in reversed(H[len(H) - L :]):
        v = [a - alpha * h for a, h in zip(v, product(v), strict=True)]
    return v


def _binom(H: list[Product], g: Vector, alpha: float, L: int) -> Vector:
    total = list(g)
    for j in range(1, L + 1):
        for steps in combinations(range(len(H)), j):
            v = g
            for k in reversed(steps):
                v = H[k](v)
            total = [t + (-alpha) ** j * h for t, h in zip(total, v, strict=True)]
    return total


_FORMULAS: dict[str, Callable[..., Vector]] = {"fomaml": _fomaml, "trunc": _trunc, "binom": _binom}


def worst_error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest relative error of a parameter's gradient.

    A parameter whose gradient is rounding noise beside the whole is measured against the whole.
    """
    ends = {name.removeprefix("module."): value for name, value in found.items()}
    assert ends.keys() == wanted.keys(), sorted(ends.keys() ^ wanted.keys())
    whole = max(float(value.norm()) for value in wanted.values())
    worst = 0.0
    for name, value in wanted.items():
        scale = max(float(value.norm()), 1e-3 * whole, 1e-30)
        worst = max(worst, float((ends[name] - value).norm()) / scale)
    return worst
