"""RNN, GRU and LSTM step by step, from operations that can be differentiated as often as wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from binomctl.errors import ConfigError

State = tuple[Tensor, ...]
Cell = Callable[[Tensor, State, list[Tensor], list[Tensor]], State]


def unrolled(self: Any, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
    """What the forward of torch.nn.RNN, GRU or LSTM returns: outputs and last states."""
    if isinstance(input, PackedSequence):
        raise ConfigError(
            f"{type(self).__name__} of packed sequences cannot be adapted",
            "Pad the sequences and mask what is behind their ends.",
        )
    if self.dropout > 0 and self.training and self.num_layers > 1:
        raise ConfigError(
            f"{type(self).__name__} (dropout = {self.dropout}) draws a new mask at every call",
            "Set dropout = 0, or put the module into eval mode.",
        )
    batched = input.dim() == 3
    x = input if batched else input.unsqueeze(0 if self.batch_first else 1)
    x = x.transpose(0, 1) if self.batch_first else x  # [time, N, features]
    lstm = isinstance(self, nn.LSTM)
    cell = _lstm if lstm else _gru if isinstance(self, nn.GRU) else _plain(self.nonlinearity)
    directions = 2 if self.bidirectional else 1
    given = None if hx is None else (tuple(hx) if lstm else (hx,))
    if given is not None and not batched:
        given = tuple(h.unsqueeze(1) for h in given)
    last: list[State] = []
    for layer in range(self.num_layers):
        outputs = []
        for direction in range(directions):
            w, r = _weights(self, layer, direction)
            i = layer * directions + direction
            state = _start(self, x, lstm) if given is None else tuple(h[i] for h in given)
            steps = []
            for t in reversed(range(len(x))) if direction else range(len(x)):
                state = cell(x[t], state, w, r)
                steps.append(state[0])
            outputs.append(torch.stack(steps[::-1] if direction else steps))
            last.append(state)
        x = torch.cat(outputs, -1) if directions == 2 else outputs[0]
    out = x.transpose(0, 1) if self.batch_first else x
    states = [torch.stack(column) for column in zip(*last, strict=True)]
    if not batched:
        out = out.squeeze(0 if self.batch_first else 1)
        states = [h.squeeze(1) for h in states]
    return out, tuple(states) if lstm else states[0]


def _weights(self: Any, layer: int, direction: int) -> tuple[list[Tensor], list[Tensor]]:
    """(weight_ih, bias_ih), and (weight_hh, bias_hh[, weight_hr])."""
    end = f"_l{layer}" + ("_reverse" if direction else "")

    def named(*names: str) -> list[Tensor]:
        return [getattr(self, n + end) for n in names if hasattr(self, n + end)]

    return named("weight_ih", "bias_ih"), named("weight_hh", "bias_hh") + named("weight_hr")


def _start(self: Any, x: Tensor, lstm: bool) -> State:
    size = getattr(self, "proj_size", 0) or self.hidden_size
    h = x.new_zeros(x.shape[1], size)
    return (h, x.new_zeros(x.shape[1], self.hidden_size)) if lstm else (h,)


def _affine(x: Tensor, w: list[Tensor]) -> Tensor:
    bias = w[1] if len(w) > 1 and w[1].dim() == 1 else None
    return F.linear(x, w[0], bias)


def _plain(nonlinearity: str) -> Cell:
    act = torch.tanh if nonlinearity == "tanh" else torch.relu

    def cell(x: Tensor, state: State, w: list[Tensor], r: list[Tensor]) -> State:
        return (act(_affine(x, w) + _affine(state[0], r)),)

    return cell


def _gru(x: Tensor, state: State, w: list[Tensor], r: list[Tensor]) -> State:
    (h,) = state
    xr, xz, xn = _affine(x, w).chunk(3, -1)
    hr, hz, hn = _affine(h, r).chunk(3, -1)
    reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
    new = torch.tanh(xn + reset * hn)
    return (new + update * (h - new),)


def _lstm(x: Tensor, state: State, w: list[Tensor], r: list[Tensor]) -> State:
    h, c = state
    i, f, g, o = (_affine(x, w) + _affine(h, r)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return (F.linear(h, r[-1]) if r[-1].shape[0] != 4 * c.shape[-1] else h), c
