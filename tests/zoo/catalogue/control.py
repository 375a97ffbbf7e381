"""Control flow on values, masks, shapes that depend on data, and writes in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.entry import Net, ce, integers, mse, normal, registrar, several, three

add = registrar("control flow", loss=ce, x=normal(4), y=three)


def between(function: Callable[[Any, Tensor], Tensor]) -> Callable[[], nn.Module]:
    return lambda: Net(
        lambda net, x: net.b(function(net, net.a(x))), a=nn.Linear(4, 5), b=nn.Linear(5, 3)
    )


def branch(net: Any, h: Tensor) -> Tensor:
    return h.tanh() if h.sum() > 0 else h.sigmoid()


def branch_on_each(net: Any, h: Tensor) -> Tensor:
    return torch.stack([row.tanh() if row[0] > 0 else 2 * row for row in h])


def item(net: Any, h: Tensor) -> Tensor:
    return (h / (1 + h.abs().max().item())).tanh()


def loop_until(net: Any, h: Tensor) -> Tensor:
    for _ in range(5):
        if h.norm().item() < 0.5:
            break
        h = 0.5 * torch.tanh(h)
    return h


def boolean_write(net: Any, h: Tensor) -> Tensor:
    out = torch.zeros_like(h)
    out[h > 0] = h[h > 0].square()
    return out + 0.1 * h


def boolean_read(net: Any, h: Tensor) -> Tensor:
    return h.tanh() + h[h > 0].mean()


def nonzero(net: Any, h: Tensor) -> Tensor:
    rows = (h[:, 0] > h[:, 1]).nonzero().flatten()
    return h.tanh().index_add(0, rows, h[rows].sin())


def masked_select(net: Any, h: Tensor) -> Tensor:
    return h.tanh() * torch.masked_select(h, h.abs() < 1).square().sum()


def to_numpy(net: Any, h: Tensor) -> Tensor:
    scale = float(h.detach().numpy().std()) + 1.0
    return (h / scale).tanh()


def in_place(net: Any, h: Tensor) -> Tensor:
    h.add_(1).tanh_()
    return h.mul(2)


def alias(net: Any, h: Tensor) -> Tensor:
    out = h.clone()
    left = out[:, :2]
    left *= 2
    out[:, 4].add_(left.sum(1))
    return out.tanh()


def fill(net: Any, h: Tensor) -> Tensor:
    out = h.new_empty(h.shape)
    for i in range(5):
        out[:, i] = h[:, : i + 1].sum(1).tanh()
    return out


def masked_fill_(net: Any, h: Tensor) -> Tensor:
    h = h.tanh()
    return h.clone().masked_fill_(h < -0.5, -0.5)


def index_put(net: Any, h: Tensor) -> Tensor:
    return h.tanh().index_put((torch.tensor([0]),), h[:1].sin(), accumulate=True)


def out_of_place_list(net: Any, h: Tensor) -> Tensor:
    columns = h.unbind(1)
    return torch.stack([a * b for a, b in zip(columns, columns[1:] + columns[:1], strict=True)], 1)


def tries(net: Any, h: Tensor) -> Tensor:
    try:
        return h.view(-1, 7).tanh()
    except RuntimeError:
        return h.tanh()


def unique_rows(net: Any, h: Tensor) -> Tensor:
    groups, place = torch.unique((h[:, 0] > 0).long(), return_inverse=True)
    sums = h.new_zeros(len(groups), 5).index_add(0, place, h)
    return (h + sums[place]).tanh()


def nearest(net: Any, h: Tensor) -> Tensor:
    distance = torch.cdist(h, h) + 1e3 * torch.eye(len(h)).to(h)
    return (h + h[distance.argmin(1)]).tanh()


def quantile(net: Any, h: Tensor) -> Tensor:
    return (h - h.quantile(0.5, dim=1, keepdim=True)).tanh()


def scatter(net: Any, h: Tensor) -> Tensor:
    order = h.argsort(1)
    return torch.zeros_like(h).scatter(1, order, h.sin()) + h


FUNCTIONS = (
    branch, branch_on_each, item, loop_until, boolean_write, boolean_read, nonzero, masked_select,
    to_numpy, in_place, alias, fill, masked_fill_, index_put, out_of_place_list, tries, unique_rows,
    nearest, quantile, scatter,
)  # fmt: skip
for function in FUNCTIONS:
    add(f"control_{function.__name__.strip('_')}", between(function))


def early_exit(net: Any, x: Tensor) -> Tensor:
    h = net.a(x).tanh()
    out = net.b(h)
    sure = out.softmax(-1).amax(-1) > 0.6
    if bool(sure.all()):
        return out
    return torch.where(sure[:, None], out, net.c(h))


def routed(net: Any, x: Tensor) -> Tensor:
    """Hard routing: every expert gets the rows it is chosen for."""
    gate = net.gate(x).softmax(-1)
    weight, chosen = gate.max(-1)
    out = x.new_zeros(len(x), 3)
    for i, expert in enumerate(net.experts):
        rows = (chosen == i).nonzero().flatten()
        if len(rows):
            out = out.index_add(0, rows, expert(x[rows]) * weight[rows, None])
    return out


def bucketed(net: Any, x: Tensor, length: Tensor) -> Tensor:
    return net.b(torch.stack([net.a(row[: int(n)]).tanh().mean(0)
                              for row, n in zip(x, length, strict=True)]))  # fmt: skip


def packed(net: Any, x: Tensor, length: Tensor) -> Tensor:
    given = nn.utils.rnn.pack_padded_sequence(x, length, batch_first=True, enforce_sorted=False)
    _, h = net.cells(given)
    return net.b(h[-1])


add("early_exit", lambda: Net(early_exit, a=nn.Linear(4, 5), b=nn.Linear(5, 3),
    c=nn.Linear(5, 3)), allow_unused=True)  # fmt: skip
add("experts_hard_routing", lambda: Net(routed, gate=nn.Linear(4, 2),
    experts=nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])), allow_unused=True)  # fmt: skip
add("lengths_sliced", lambda: Net(bucketed, a=nn.Linear(4, 5), b=nn.Linear(5, 3)), ce,
    several(normal(5, 4), integers(6, low=1)))  # fmt: skip
add("packed_sequences", lambda: Net(packed, cells=nn.GRU(4, 5, batch_first=True),
    b=nn.Linear(5, 3)), ce, several(normal(5, 4), integers(6, low=1)),
    may_refuse=True)  # fmt: skip
add("nested_list_output", lambda: Net(lambda net, x: [net.a(x), [net.b(x)]], a=nn.Linear(4, 3),
    b=nn.Linear(4, 3)), lambda p, y: ce(p[0], y) + ce(p[1][0], y))  # fmt: skip


def by_size(net: Any, x: Tensor) -> Tensor:
    return net.a(x) / len(x) if len(x) > 3 else net.a(x).tanh()


add("size_dependent", lambda: Net(by_size, a=nn.Linear(4, 2)), mse, normal(4), normal(2),
    sizes=(5, 2))  # fmt: skip
