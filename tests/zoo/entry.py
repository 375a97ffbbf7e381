"""What a member of the zoo is, and the makers of its episodes."""

from __future__ import annotations

import importlib.util
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Maker = Callable[[torch.Generator, int], Any]
"""(generator, examples) -> one task's tensor, tuple or dict of them [N, ...], in float64."""

Episodes = tuple[Any, Any, Any, Any]


@dataclass(frozen=True)
class Entry:
    """A network and a loss that the project did not design.

    Attributes:
        make: the network, from torch's global generator; seeded and cast by `build`.
        loss: of (prediction, targets), or with the parameters by name as a third argument.
        x: makes one task's inputs.
        y: makes one task's targets.
        sizes: support and query examples.
        heavy: one estimator, one call.
        refused: words of the error's message; None: the numbers must be right.
        may_refuse: either of the two is right: refused in words, or the right numbers.
        tolerance: of the relative error, where torch itself computes in float32.
        allow_unused: zeros for parameters that the loss does not depend on.
        needs: an optional package.
        twin_loss: the loss that the oracle differentiates, where torch does not derive it twice.
        twin: the network that the oracle differentiates, where torch takes no parameters from
            outside for the other one: equal numbers, names that end the same way.
    """

    name: str
    kind: str
    make: Callable[[], nn.Module]
    loss: Callable[..., Tensor]
    x: Maker
    y: Maker
    sizes: tuple[int, int] = (4, 3)
    alpha: float = 0.05
    K: int = 3
    heavy: bool = False
    refused: tuple[str, ...] | None = None
    may_refuse: bool = False
    allow_unused: bool = False
    with_parameters: bool = False
    dtype: torch.dtype = torch.float64
    tolerance: float = 1e-8
    needs: str = ""
    twin: Callable[[], nn.Module] | None = None
    twin_loss: Callable[..., Tensor] | None = None

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode())

    @property
    def missing(self) -> str:
        """Why it cannot run here, or nothing."""
        absent = self.needs and importlib.util.find_spec(self.needs) is None
        return f"{self.needs} is not installed" if absent else ""

    @property
    def allowed(self) -> float:
        """The largest relative error that passes."""
        return self.tolerance if self.dtype == torch.float64 else 1e-4

    def build(self) -> nn.Module:
        return self._seeded(self.make)

    def build_plain(self) -> nn.Module:
        return self._seeded(self.twin or self.make)

    def episodes(self) -> Episodes:
        generator = torch.Generator().manual_seed(self.seed)
        parts = []
        for n in self.sizes:
            for maker in (self.x, self.y):
                tasks = [maker(generator, n) for _ in range(2)]
                parts.append(_stacked(tasks, self.dtype))
        return parts[0], parts[1], parts[2], parts[3]

    def _seeded(self, make: Callable[[], nn.Module]) -> nn.Module:
        state = torch.get_rng_state()
        torch.manual_seed(self.seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what third parties say at construction
                net = make()
            return net.double() if self.dtype == torch.float64 else net
        finally:
            torch.set_rng_state(state)


def mapped(f: Callable[[Tensor], Any], tree: Any) -> Any:
    if isinstance(tree, tuple):
        return tuple(f(part) for part in tree)
    if isinstance(tree, dict):
        return {key: f(part) for key, part in tree.items()}
    return f(tree)


def _stacked(tasks: list[Any], dtype: torch.dtype) -> Any:
    def stack(parts: list[Tensor]) -> Tensor:
        whole = torch.stack(parts)
        return whole.to(dtype) if whole.is_floating_point() else whole

    first = tasks[0]
    if isinstance(first, tuple):
        return tuple(stack([t[i] for t in tasks]) for i in range(len(first)))
    if isinstance(first, dict):
        return {key: stack([t[key] for t in tasks]) for key in first}
    return stack(tasks)


ENTRIES: dict[str, Entry] = {}


def registrar(kind: str, **defaults: Any) -> Callable[..., Entry]:
    """A function that registers the entries of one kind."""

    def add(name: str, make: Callable[[], nn.Module], *args: Any, **flags: Any) -> Entry:
        given = dict(zip(("loss", "x", "y"), args, strict=False))
        entry = Entry(name, kind, make, **{**defaults, **given, **flags})
        assert name not in ENTRIES, name
        ENTRIES[name] = entry
        return entry

    return add


class Net(nn.Module):
    """Parts by name and a forward that is handed in: f(net, *inputs)."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.function(self, *inputs, **named)


def parameter(*shape: int, scale: float = 0.5) -> nn.Parameter:
    return nn.Parameter(scale * torch.randn(shape))


def normal(*shape: int) -> Maker:
    return lambda g, n: torch.randn(n, *shape, generator=g, dtype=torch.float64)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Maker:
    return lambda g, n: low + (high - low) * torch.rand(n, *shape, generator=g, dtype=torch.float64)


def integers(high: int, *shape: int, low: int = 0) -> Maker:
    return lambda g, n: torch.randint(low, high, (n, *shape), generator=g)


def signs(*shape: int) -> Maker:
    return lambda g, n: (torch.randint(0, 2, (n, *shape), generator=g) * 2 - 1).double()


def distributions(*shape: int) -> Maker:
    """Positive numbers that sum to one over the last axis."""
    return lambda g, n: torch.rand(n, *shape, generator=g, dtype=torch.float64).softmax(-1)


def several(*makers: Maker) -> Maker:
    return lambda g, n: tuple(maker(g, n) for maker in makers)


def named(**makers: Maker) -> Maker:
    return lambda g, n: {key: maker(g, n) for key, maker in makers.items()}


ce, mse = F.cross_entropy, F.mse_loss
three = integers(3)
"""Labels of three classes."""
