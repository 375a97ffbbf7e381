"""Recurrent networks, torch's and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.entry import Net, ce, integers, mse, normal, parameter, registrar, three

add = registrar("recurrent", loss=ce, x=normal(4, 3), y=three)


def last_step(cls: type[nn.Module], width: int = 4, **options: Any) -> Callable[[], nn.Module]:
    """The head reads the last output of each sequence; of both directions, their mean."""
    wide = width * (2 if options.get("bidirectional") else 1)
    wide = options.get("proj_size", wide) or wide
    first = options.setdefault("batch_first", True)

    def forward(net: Any, x: Tensor) -> Tensor:
        out, _ = net.cells(x if first else x.transpose(0, 1))
        if options.get("bidirectional"):
            return net.head(out.mean(1))
        return net.head(out[:, -1] if first else out[-1])

    return lambda: Net(forward, cells=cls(3, width, **options), head=nn.Linear(wide, 3))


for cls in (nn.RNN, nn.GRU, nn.LSTM):
    name = cls.__name__.lower()
    add(name, last_step(cls))
    add(f"{name}_two_layers", last_step(cls, num_layers=2))
    add(f"{name}_bidirectional", last_step(cls, bidirectional=True))
    add(f"{name}_time_first", last_step(cls, batch_first=False))
    add(f"{name}_no_bias", last_step(cls, bias=False))
add("rnn_relu", last_step(nn.RNN, nonlinearity="relu"))
add("lstm_projected", last_step(nn.LSTM, proj_size=2))
add("lstm_dropout_eval", lambda: last_step(nn.LSTM, num_layers=2, dropout=0.3)().eval())
add("gru_float32", last_step(nn.GRU), dtype=torch.float32)
add("lstm_last_state", lambda: Net(
    lambda net, x: net.head(torch.cat(list(net.cells(x)[1][1]), -1)),
    cells=nn.LSTM(3, 4, num_layers=2, batch_first=True), head=nn.Linear(8, 3)))  # fmt: skip
add("gru_initial_state", lambda: Net(
    lambda net, x: net.head(net.cells(x, net.start.expand(1, len(x), 4).contiguous())[0].mean(1)),
    cells=nn.GRU(3, 4, batch_first=True), start=parameter(1, 1, 4),
    head=nn.Linear(4, 3)))  # fmt: skip


def by_cell(net: Any, x: Tensor) -> Tensor:
    state = None
    for t in range(x.shape[1]):
        state = net.cell(x[:, t], state)
    return net.head(state[0] if isinstance(state, tuple) else state)


for cls in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
    add(f"{cls.__name__.lower()}_loop",
        lambda cls=cls: Net(by_cell, cell=cls(3, 4), head=nn.Linear(4, 3)))  # fmt: skip


def elman(net: Any, x: Tensor) -> Tensor:
    h = x.new_zeros(len(x), 4)
    for step in x.unbind(1):
        h = torch.tanh(net.inner(step) + net.outer(h))
    return net.head(h)


def gated(net: Any, x: Tensor) -> Tensor:
    h = x.new_zeros(len(x), 4)
    for step in x.unbind(1):
        z, r, c = net.inner(step).chunk(3, -1)
        keep = torch.sigmoid(z + net.outer(h))
        h = keep * h + (1 - keep) * torch.tanh(c + torch.sigmoid(r) * h)
    return net.head(h)


def scan(net: Any, x: Tensor) -> Tensor:
    """A diagonal state space with complex modes."""
    decay = torch.exp(torch.complex(-net.rate.exp(), net.angle))
    h = torch.zeros(len(x), 4, dtype=decay.dtype)
    for step in x.unbind(1):
        h = decay * h + net.inner(step)
    return net.head(torch.cat([h.real, h.imag], -1))


add("elman_by_hand", lambda: Net(elman, inner=nn.Linear(3, 4), outer=nn.Linear(4, 4),
    head=nn.Linear(4, 3)))  # fmt: skip
add("gated_by_hand", lambda: Net(gated, inner=nn.Linear(3, 12), outer=nn.Linear(4, 4),
    head=nn.Linear(4, 3)))  # fmt: skip
add("state_space_complex", lambda: Net(scan, rate=parameter(4), angle=parameter(4),
    inner=nn.Linear(3, 4), head=nn.Linear(8, 3)))  # fmt: skip
add("sequence_to_sequence", lambda: Net(
    lambda net, x: net.head(net.cells(x)[0]), cells=nn.LSTM(3, 4, batch_first=True),
    head=nn.Linear(4, 2)), mse, normal(4, 3), normal(4, 2))  # fmt: skip
add("language_gru", lambda: Net(
    lambda net, x: net.head(net.cells(net.table(x))[0]).transpose(1, 2),
    table=nn.Embedding(7, 3), cells=nn.GRU(3, 4, batch_first=True), head=nn.Linear(4, 7)),
    ce, integers(7, 5), integers(7, 5))  # fmt: skip
add("language_rnn_one_hot", lambda: Net(
    lambda net, x: net.head(net.cells(torch.nn.functional.one_hot(x, 7).to(net.head.weight))[0])
    .flatten(0, 1), cells=nn.RNN(7, 4, batch_first=True), head=nn.Linear(4, 7)),
    lambda p, y: ce(p, y.flatten()), integers(7, 4), integers(7, 4))  # fmt: skip
add("bidirectional_gru_pooled", lambda: Net(
    lambda net, x: net.head(net.cells(x)[0].amax(1)),
    cells=nn.GRU(3, 3, bidirectional=True, batch_first=True, num_layers=2),
    head=nn.Linear(6, 3)))  # fmt: skip
