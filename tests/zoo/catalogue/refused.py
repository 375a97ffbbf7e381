"""What cannot be done, each to be refused in words that name the cause."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import Net, ce, integers, normal, parameter, registrar, three

add = registrar("refused", loss=ce, x=normal(4), y=three)


def two() -> dict[str, nn.Module]:
    return {"a": nn.Linear(4, 5), "b": nn.Linear(5, 3)}


def dropped(net: Any, x: Tensor) -> Tensor:
    return net.b(F.dropout(net.a(x), 0.3))


def layer_drop(net: Any, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(h if torch.rand(()) < 0.1 else h.tanh())


def layer_drop_python(net: Any, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(h if random.random() < 0.1 else h.tanh())


def noisy(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x) + 0.1 * torch.randn_like(net.a(x)))


def moving(net: Any, x: Tensor) -> Tensor:
    """A moving average that the output uses: what it was before matters."""
    h = net.a(x)
    net.mean = 0.9 * net.mean + 0.1 * h.detach().mean(0)
    return net.b(h - net.mean)


class Penalised:
    """A loss object that holds the network."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, p: Tensor, y: Tensor) -> Tensor:
        return ce(p, y) + 0.1 * sum(w.square().sum() for w in self.net.parameters())


HELD: list[nn.Module] = [nn.Linear(4, 3)]


def held() -> nn.Module:
    """One and the same network at every call, so that a loss can hold it."""
    return HELD[0]


def closing_over(net: nn.Module) -> Any:
    return lambda p, y: ce(p, y) + 0.1 * sum(w.square().sum() for w in net.parameters())


def closing_over_weight(weight: Tensor) -> Any:
    return lambda p, y: ce(p, y) + 0.1 * weight.square().sum()


def given(net: nn.Module, p: Tensor, y: Tensor) -> Tensor:
    return ce(p, y) + 0.1 * net.weight.square().sum()


def looking_up(p: Tensor, y: Tensor) -> Tensor:
    return ce(p, y) + 0.1 * sum(w.square().sum() for w in HELD[0].parameters())


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


add("refused_dropout", lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.3), nn.Linear(5, 3)),
    refused=("Dropout",))  # fmt: skip
add("refused_dropout_functional", lambda: Net(dropped, **two()), refused=("dropout|random",))
add("refused_dropout_attention", lambda: Net(
    lambda net, x: net.head(net.body(x[:, None])[:, 0]),
    body=nn.TransformerEncoderLayer(4, 2, 6, dropout=0.2, batch_first=True),
    head=nn.Linear(4, 3)), refused=("ropout",))  # fmt: skip
add("refused_dropout_lstm", lambda: Net(
    lambda net, x: net.head(net.cells(x[:, None])[0][:, 0]),
    cells=nn.LSTM(4, 4, num_layers=2, dropout=0.4, batch_first=True), head=nn.Linear(4, 3)),
    refused=("dropout",))  # fmt: skip
add("refused_rrelu_training", lambda: nn.Sequential(nn.Linear(4, 5), nn.RReLU(), nn.Linear(5, 3)),
    refused=("RReLU|random",))  # fmt: skip
add("refused_layer_drop", lambda: Net(layer_drop, **two()), refused=("random",))
add("refused_layer_drop_python", lambda: Net(layer_drop_python, **two()), refused=("random",))
add("refused_noise", lambda: Net(noisy, **two()), refused=("random",))
add("refused_running_statistics", lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5),
    nn.Linear(5, 3)), refused=("running statistics",))  # fmt: skip
add("refused_moving_average", lambda: Net(moving, mean=nn.Buffer(torch.zeros(5)), **two()),
    refused=("mean",))  # fmt: skip
add("refused_label_too_large", plain, y=lambda g, n: torch.full((n,), 7), refused=("7", "3|2"))
add("refused_label_negative", plain, y=lambda g, n: torch.full((n,), -1), refused=("-1", "3|2"))
add("refused_token_too_large", lambda: Net(
    lambda net, x: net.head(net.table(x).mean(1)), table=nn.Embedding(6, 4), head=nn.Linear(4, 3)),
    x=integers(7, 4, low=6), refused=("6|range",))  # fmt: skip
for name, loss in {
    "closure": closing_over(HELD[0]), "closure_weight": closing_over_weight(HELD[0].weight),
    "list": looking_up, "object": Penalised(HELD[0]), "partial": partial(given, HELD[0]),
}.items():  # fmt: skip
    add(f"refused_loss_over_{name}", held, loss=loss, refused=("parameters",))
add("refused_loss_not_scalar", plain, loss=lambda p, y: F.cross_entropy(p, y, reduction="none"),
    refused=("scalar",))  # fmt: skip
add("refused_loss_no_tensor", plain, loss=lambda p, y: 1.0, refused=("tensor|float",))
add("refused_loss_constant", plain, loss=lambda p, y: ce(p.detach(), y),
    refused=("depend|constant",))  # fmt: skip
add(
    "refused_unused_parameter",
    lambda: Net(lambda net, x: net.a(x), a=nn.Linear(4, 3), spare=parameter(2)),
    refused=("spare",),
)
add(
    "refused_targets_of_another_length",
    plain,
    y=lambda g, n: torch.randint(0, 3, (n + 1,), generator=g),
    refused=("4|5|length|size",),
)
add("refused_lazy", lambda: nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(3)),
    refused=("azy",))  # fmt: skip
add("refused_empty_query", plain, sizes=(4, 0), refused=("empty|no ",))
add("refused_empty_support", plain, sizes=(0, 4), refused=("empty|no ",))
add("refused_max_norm", lambda: Net(
    lambda net, x: net.head(net.table(x).mean(1)), table=nn.Embedding(6, 4, max_norm=1.0),
    head=nn.Linear(4, 3)), x=integers(6, 4), refused=("max_norm",))  # fmt: skip
add("refused_wrong_width", lambda: nn.Linear(5, 3), refused=("Linear",))
add("refused_all_frozen", lambda: nn.Linear(4, 3).requires_grad_(False), refused=("frozen",))
add("refused_no_parameters", nn.Tanh, refused=("parameters",))
add("refused_error_inside", lambda: Net(
    lambda net, x: net.b(net.a(x) / (1 // 0)), **two()), refused=("ZeroDivision",))  # fmt: skip
