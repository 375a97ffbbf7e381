"""Tables of embeddings, and weights that occur twice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import Net, ce, integers, mse, named, normal, parameter, registrar, several, three

table = registrar("embedding", loss=ce, x=integers(6, 4), y=three)
share = registrar("sharing", loss=ce, x=normal(4), y=three)


def looked_up(embedding: nn.Module) -> nn.Module:
    return Net(lambda net, x: net.head(net.table(x).mean(1).tanh()), table=embedding,
               head=nn.Linear(4, 3))  # fmt: skip


table("embedding", lambda: looked_up(nn.Embedding(6, 4)))
table("embedding_padding", lambda: looked_up(nn.Embedding(6, 4, padding_idx=0)))
table("embedding_scaled_by_frequency",
      lambda: looked_up(nn.Embedding(6, 4, scale_grad_by_freq=True)), may_refuse=True)  # fmt: skip
table("embedding_pretrained_frozen",
      lambda: looked_up(nn.Embedding.from_pretrained(torch.randn(6, 4))))  # fmt: skip


class Bag(nn.Embedding):
    """nn.EmbeddingBag from operations that torch derives twice."""

    def __init__(self, mode: str) -> None:
        super().__init__(6, 4)
        self.mode = mode

    def forward(self, x: Tensor, per_sample_weights: Tensor | None = None) -> Tensor:
        rows = super().forward(x)
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.unsqueeze(-1)
        return rows.amax(1) if self.mode == "max" else getattr(rows, self.mode)(1)


def bagged(bag: nn.Module) -> nn.Module:
    return Net(lambda net, x, **w: net.head(net.table(x, **w).tanh()), table=bag,
               head=nn.Linear(4, 3))  # fmt: skip


for mode in ("sum", "mean", "max"):
    table(
        f"embedding_bag_{mode}",
        lambda mode=mode: bagged(nn.EmbeddingBag(6, 4, mode=mode)),
        twin=lambda mode=mode: bagged(Bag(mode)),
        may_refuse=True,
        x=(lambda g, n: torch.stack([torch.randperm(6, generator=g)[:4] for _ in range(n)])),
    )
table("embedding_bag_weighted", lambda: bagged(nn.EmbeddingBag(6, 4, mode="sum")),
      x=named(x=integers(6, 4), per_sample_weights=normal(4)),
      twin=lambda: bagged(Bag("sum")), may_refuse=True)  # fmt: skip
table("embedding_functional", lambda: Net(
    lambda net, x: net.head(F.embedding(x, net.table).mean(1).tanh()), table=parameter(6, 4),
    head=nn.Linear(4, 3)))  # fmt: skip
table("embedding_by_index", lambda: Net(
    lambda net, x: net.head(net.table[x].mean(1).tanh()), table=parameter(6, 4),
    head=nn.Linear(4, 3)))  # fmt: skip
table("embedding_index_select", lambda: Net(
    lambda net, x: net.head(net.table.index_select(0, x.flatten()).view(-1, 4, 4).mean(1).tanh()),
    table=parameter(6, 4), head=nn.Linear(4, 3)))  # fmt: skip
table("embedding_gather", lambda: Net(
    lambda net, x: net.head(net.table.expand(len(x), 6).gather(1, x)), table=parameter(6),
    head=nn.Linear(4, 3)))  # fmt: skip
table("embedding_one_hot", lambda: Net(
    lambda net, x: net.head((F.one_hot(x, 6).to(net.table) @ net.table).mean(1).tanh()),
    table=parameter(6, 4), head=nn.Linear(4, 3)))  # fmt: skip
table("embedding_positions", lambda: Net(
    lambda net, x: net.head((net.table(x) + net.places(torch.arange(4))).tanh().mean(1)),
    table=nn.Embedding(6, 4), places=nn.Embedding(4, 4), head=nn.Linear(4, 3)))  # fmt: skip
table("embedding_word2vec", lambda: Net(
    lambda net, x: (net.centre(x[:, :1]) * net.context(x[:, 1:])).sum(-1),
    centre=nn.Embedding(6, 3), context=nn.Embedding(6, 3)),
    lambda p, y: F.binary_cross_entropy_with_logits(p, y.to(p)),
    integers(6, 4), integers(2, 3))  # fmt: skip
table("embedding_factorisation", lambda: Net(
    lambda net, x: (net.u(x[:, 0]) * net.v(x[:, 1])).sum(-1) + net.bias,
    u=nn.Embedding(5, 3), v=nn.Embedding(6, 3), bias=parameter()),
    mse, integers(5, 2), normal())  # fmt: skip


class TiedLanguage(nn.Module):
    """The output layer's weight is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.mix = nn.Linear(4, 4)
        self.out = nn.Linear(4, 6, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self.table(x)).tanh()).transpose(1, 2)


share("tied_embedding", TiedLanguage, ce, integers(6, 4), integers(6, 4))
share("tied_autoencoder", lambda: Net(
    lambda net, x: F.linear(torch.tanh(net.code(x)), net.code.weight.t(), net.back),
    code=nn.Linear(4, 3), back=parameter(4)), lambda p, y: (p - y).square().mean(),
    normal(4), normal(4))  # fmt: skip


def twice_named() -> nn.Module:
    one = nn.Linear(4, 4)
    return nn.Sequential(nn.Sequential(one, nn.Tanh()), one, nn.Tanh(), nn.Linear(4, 3))


def tied_parameters() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    net[2].weight = net[0].weight
    return net


def half_tied() -> nn.Module:
    """One linear layer whose weight another uses transposed through a view, frozen bias."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    net[0].bias.requires_grad_(False)
    return net


def one_prelu() -> nn.Module:
    act = nn.PReLU()
    return nn.Sequential(nn.Linear(4, 5), act, nn.Linear(5, 5), act, nn.Linear(5, 3))


def listed(net: Any, x: Tensor) -> Tensor:
    for _ in range(3):
        for layer in net.layers:
            x = x + layer(x).tanh()
    return net.head(x)


share("one_module_two_names", twice_named)
share("two_layers_one_weight", tied_parameters)
share("bias_frozen", half_tied)
share("one_prelu_twice", one_prelu)
share("universal_steps", lambda: Net(
    listed, layers=nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]),
    head=nn.Linear(4, 3)))  # fmt: skip
share("siamese", lambda: Net(
    lambda net, a, b: (net.code(a) - net.code(b)).square().sum(-1),
    code=nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))),
    mse, several(normal(4), normal(4)), normal())  # fmt: skip
share("temperature", lambda: Net(
    lambda net, x: net.head(x) / net.t, head=nn.Linear(4, 3),
    t=nn.Parameter(torch.tensor(0.7))))  # fmt: skip
share("log_temperature", lambda: Net(
    lambda net, x: net.head(x.tanh()) * net.t.exp(), head=nn.Linear(4, 3),
    t=nn.Parameter(torch.zeros(()))))  # fmt: skip
share("parameter_list", lambda: Net(
    lambda net, x: (x @ net.w[0]).tanh() @ net.w[1] + net.w[2],
    w=nn.ParameterList([parameter(4, 5), parameter(5, 3), parameter(3)])))  # fmt: skip
share("parameter_dict", lambda: Net(
    lambda net, x: (x @ net.w["in"]).tanh() @ net.w["out"],
    w=nn.ParameterDict({"in": parameter(4, 5), "out": parameter(5, 3)})))  # fmt: skip
share(
    "module_dict",
    lambda: Net(
        lambda net, x: sum(part(x) for part in net.parts.values()),
        parts=nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Sequential(nn.Linear(4, 3), nn.Tanh())}),
    ),
)
share("linear_regression", lambda: nn.Linear(4, 1), mse, normal(4), normal(1))
share("linear_bare", lambda: nn.Linear(4, 3))
