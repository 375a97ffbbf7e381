"""Networks with state, wrappers and things that are no tensors."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

from zoo.entry import Net, ce, normal, parameter, registrar, three

add = registrar("state", loss=ce, x=normal(4), y=three)


def two_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(4, 5), "b": nn.Linear(5, 3)}


class Counter(nn.Module):
    """Counts its calls in a buffer, in place, and in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.count += 1
        return self.b(self.a(x).tanh())


class Keeps(nn.Module):
    """Keeps the last activation, in an attribute and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.seen: list[Tensor] = []
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.a(x).tanh()
        self.seen.append(self.last)
        return self.b(self.last)


class Replaces(nn.Module):
    """Assigns a new tensor to a buffer that the output does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).tanh()
        self.mean = 0.9 * self.mean + 0.1 * h.mean(0).detach()
        return self.b(h)


class UsesAfter(nn.Module):
    """Sets a buffer to the batch at hand and then uses it: the same at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        self.mean.copy_(h.detach().mean(0))
        return self.b((h - self.mean).tanh())


class FirstCall(nn.Module):
    """Makes a table at its first call and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None or len(self.table) != len(x):
            self.table = torch.arange(len(x), dtype=x.dtype)[:, None].sin()
        return self.b((self.a(x) + self.table).tanh())


class Keyed(nn.Module):
    """A cache in a dict, by number of examples."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.cache: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if len(x) not in self.cache:
            self.cache[len(x)] = torch.linspace(-1, 1, len(x), dtype=x.dtype)[:, None]
        return self.b((self.a(x) * (1 + self.cache[len(x)])).tanh())


for cls in (Counter, Keeps, Replaces, UsesAfter, FirstCall, Keyed):
    add(f"state_{cls.__name__.lower()}", cls)


def with_attribute(**attributes: Any) -> nn.Module:
    net = Net(lambda net, x: net.b(net.a(x).tanh()), **two_layers())
    for name, value in attributes.items():
        setattr(net, name, value)
    return net


add("holds_lock", lambda: with_attribute(lock=threading.Lock()))
add("holds_generator", lambda: with_attribute(random=torch.Generator().manual_seed(3)))
add("holds_python_generator", lambda: with_attribute(stream=(i for i in range(9))))
add("holds_lambda_and_dict", lambda: with_attribute(f=lambda v: v, info={"a": [1, torch.ones(2)]}))
add("holds_itself", lambda: (lambda net: (net.__dict__.update(me=net), net)[1])(with_attribute()))
add("constant_buffer", lambda: Net(
    lambda net, x: net.b((net.a(x) * net.scale).tanh()), scale=nn.Buffer(torch.rand(5)),
    **two_layers()))  # fmt: skip
add("constant_buffer_not_saved", lambda: Net(
    lambda net, x: net.b((net.a(x) + net.shift).tanh()),
    shift=nn.Buffer(torch.rand(5), persistent=False), **two_layers()))  # fmt: skip
add("constant_plain_tensor", lambda: Net(
    lambda net, x: net.b((net.a(x) * net.scale[0].to(x)).tanh()), scale=[torch.rand(5)],
    **two_layers()))  # fmt: skip


def patched() -> nn.Module:
    """forward is a lambda that closes over the module itself."""
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    plain = net.forward
    net.forward = lambda x: plain(x) * 1.5 + net[2].bias
    return net


def patched_layer() -> nn.Module:
    """A layer's forward is replaced by a function that uses another layer."""
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    first, last = net[0], net[2]
    last.forward = lambda h: nn.functional.linear(h, last.weight, last.bias) + first.bias.sum()
    return net


def bound_method() -> nn.Module:
    net = with_attribute()

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu() + self.a.bias)

    net.forward = forward.__get__(net)
    return net


add("forward_patched", patched)
add("forward_patched_layer", patched_layer)
add("forward_bound_method", bound_method)


class Outside(nn.Module):
    """Sub-modules in a plain list: torch does not see their parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.hidden = [nn.Linear(4, 4, dtype=torch.float64).requires_grad_(False)]

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.hidden[0](x).tanh())


class Property(nn.Module):
    """Weights behind a property, slots of state behind __getattr__."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = parameter(4, 3)

    @property
    def weight(self) -> Tensor:
        return self.raw - self.raw.mean(0)

    def __call__(self, x: Tensor) -> Any:
        return super().__call__(x)

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() @ self.weight


class Slotted(nn.Linear):
    """A subclass of a layer that changes what it computes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh() + x.mean()


class BoundEarly(nn.Module):
    """Keeps a reference to a layer's weight in a plain container."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.penalised = [self.a.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).tanh()) * (1 + sum(w.square().mean() for w in self.penalised))


add("modules_in_plain_list", Outside)
add("weights_behind_property", Property)
add("subclass_of_layer", lambda: nn.Sequential(Slotted(4, 5), nn.Linear(5, 3)))


def bound_twin() -> nn.Module:
    net = BoundEarly()
    del net.penalised
    net.forward = lambda x: net.b(net.a(x).tanh()) * (1 + net.a.weight.square().mean())
    return net


add("weight_in_plain_list", BoundEarly, twin=bound_twin)


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


add("jit_script", lambda: torch.jit.script(plain()), may_refuse=True, twin=plain)
add("jit_trace", lambda: torch.jit.trace(plain(), torch.randn(2, 4)), may_refuse=True, twin=plain)
add("data_parallel", lambda: nn.DataParallel(plain()), may_refuse=True, twin=plain)
add("compiled", lambda: torch.compile(plain(), backend="eager"), may_refuse=True,
    twin=lambda: Net(lambda net, x: net._orig_mod(x), _orig_mod=plain()))  # fmt: skip
add("module_list_of_stages", lambda: Net(
    lambda net, x: net.stages[1](net.stages[0](x).tanh()),
    stages=nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 3)])))  # fmt: skip
add("dropout_zero", lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.0), nn.Tanh(),
    nn.Linear(5, 3)))  # fmt: skip
add("dropout_eval", lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Tanh(),
    nn.Linear(5, 3)).eval())  # fmt: skip
add("layer_drop_eval", lambda: Net(
    lambda net, x: net.b(net.a(x).tanh() if not net.training or torch.rand(()) > 0.1 else x),
    **two_layers()).eval())  # fmt: skip
