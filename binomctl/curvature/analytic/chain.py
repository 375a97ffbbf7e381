"""Networks of linear layers and ReLUs in a row: whole passes, each one native call.

A step of a small network is hundreds of operations on a few numbers each, and takes the time that
the interpreter takes to start them. kernels/chain.c does a pass, or a whole inner loop, in one.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.activations import Leaky
from binomctl.curvature.analytic.layers import FLATTEN, Linear
from binomctl.curvature.analytic.losses import CrossEntropy, SquaredError
from binomctl.curvature.analytic.program import Program
from binomctl.curvature.supported import LABELS
from binomctl.errors import ConfigError, ResourceError
from binomctl.flat import Layout
from binomctl.machine.op_threads import kernel_threads

LAYERS = 16
WIDEST = 512
"""Outputs of a layer up to which the kernels are faster than torch's products."""
Closed = SquaredError | CrossEntropy


class _Given(ctypes.Structure):
    """kernels/chain.c's Chain."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "N", "layers", "d", "loss", "mean", "ignored")),
        ("fan", ctypes.c_int64 * (LAYERS + 1)),
        ("w", ctypes.c_int64 * LAYERS),
        ("b", ctypes.c_int64 * LAYERS),
        ("slope", ctypes.c_double * LAYERS),
    )


@dataclass(frozen=True)
class Chain:
    """Where the layers' parameters lie in a flat vector [d].

    widths: of the input, then of every layer's output.
    weights, biases: where they begin in the flat vector; None: no bias.
    slopes: of what is negative behind each layer, 1 where nothing follows it.
    """

    widths: tuple[int, ...]
    weights: tuple[int, ...]
    biases: tuple[int | None, ...]
    slopes: tuple[float, ...]
    d: int
    flattens: bool
    """Whether inputs [T, N, ...] have more axes."""

    def takes(self, loss: Closed, phi: Tensor, x: Tensor, y: Tensor) -> bool:
        """Whether such a loss, parameters [T, d], inputs [T, N, ...] and targets are its own."""
        rows = x.shape[:2]
        if isinstance(loss, CrossEntropy):
            plain = loss.weight is None and loss.label_smoothing == 0
            fits = plain and y.dtype == torch.long and y.shape == rows
        else:
            fits = y.dtype == x.dtype and y.shape == (*rows, self.widths[-1])
        shaped = x.dim() > 3 if self.flattens else x.dim() == 3
        whole = shaped and math.prod(x.shape[2:]) == self.widths[0]
        return fits and whole and x.dtype == phi.dtype and native.available(x, "chain")


class Passes:
    """The passes of T tasks through a chain; x [T, N, ...], y as the loss takes it."""

    def __init__(self, chain: Chain, loss: Closed, x: Tensor, y: Tensor) -> None:
        self._chain = chain
        self._x, self._y = x.flatten(2).contiguous(), y.contiguous()
        self._given = _given(chain, loss, *x.shape[:2])

    def room(self, points: int) -> Tensor:
        """Place for what the gradients at some points leave for products there, [points, T, _]."""
        numbers = native.integer("chain_kept", self._x.dtype, self._given)
        return self._x.new_empty(points, len(self._x), numbers)

    def gradient(self, phi: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Losses [T], gradients [T, d] and outputs [T, N, out] at phi [T, d]; kept [T, _] is
        filled.

        Raises:
            ConfigError: a label is no class.
        """
        x, phi = self._x, native.packed(phi)
        losses, gradient = x.new_empty(len(x)), x.new_empty(len(x), self._chain.d)
        output = x.new_empty(*x.shape[:2], self._chain.widths[-1])
        self._call("chain_gradient", phi, phi.stride(0), x, self._y, losses, gradient, output, kept)
        return losses, gradient, output

    def descend(self, path: Tensor, alpha: float, kept: Tensor | None, first: int) -> Tensor:
        """Losses [K, T] along path [K+1, T, d], whose first point is given and whose others are
        filled; kept [K - first, T, _] from step `first` on."""
        losses = path.new_empty(len(path) - 1, len(self._x))
        rate = (ctypes.c_double * 1)(alpha)
        self._call(
            "chain_descend", path, len(path) - 1, rate, self._x, self._y, losses, kept, first
        )
        return losses

    def product(self, phi: Tensor, kept: Tensor, V: Tensor) -> Tensor:
        """H V for V [T, P, d], where the gradient at phi [T, d] left `kept`."""
        phi, V = native.packed(phi), V if V.stride(-1) == 1 else V.contiguous()
        out = V.new_empty(V.shape)
        self._call(
            "chain_product", phi, phi.stride(0), self._x, kept, V, V.shape[1], V.stride(0),
            V.stride(1), out,
        )  # fmt: skip
        return out

    def expansion(
        self, points: Sequence[tuple[Tensor, Tensor]], g: Tensor, L: int, alpha: float
    ) -> Tensor:
        """S_L [T, d] of g [T, d] over C points, 1 <= L <= C: phi [T, d] of each, and what the
        gradient there left."""
        placed = [(native.packed(phi), kept) for phi, kept in points]
        steps = {phi.stride(0) for phi, _ in placed}
        if len(steps) > 1:
            placed = [(phi.contiguous(), kept) for phi, kept in placed]
        g = native.packed(g)
        out = g.new_empty(g.shape)
        words = [one.data_ptr() for pair in placed for one in pair]
        self._call(
            "chain_expand", (ctypes.c_int64 * len(words))(*words), len(placed),
            placed[0][0].stride(0), self._x, g, g.stride(0), L, (ctypes.c_double * 1)(alpha), out,
        )  # fmt: skip
        return out

    def _call(self, name: str, *arguments: native.Argument) -> None:
        code = native.integer(name, self._x.dtype, self._given, kernel_threads(), *arguments)
        if code == 2:
            low, high, classes = int(self._y.min()), int(self._y.max()), self._chain.widths[-1]
            raise ConfigError(
                f"labels from {low} to {high} for {classes} outputs of the network",
                LABELS,
            )
        if code:
            raise ResourceError("no memory left for a pass of the network", native.FEWER)


@lru_cache(maxsize=64)
def _given(chain: Chain, loss: Closed, T: int, N: int) -> _Given:
    labels = isinstance(loss, CrossEntropy)
    out = _Given(T, N, len(chain.weights), chain.d, labels, loss.reduction == "mean")
    out.ignored = loss.ignore_index if isinstance(loss, CrossEntropy) else 0
    out.fan[: len(chain.widths)] = chain.widths
    out.w[: len(chain.weights)] = chain.weights
    out.b[: len(chain.biases)] = [-1 if b is None else b for b in chain.biases]
    out.slope[: len(chain.slopes)] = chain.slopes
    return out


def chain_of(program: Program, layout: Layout) -> Chain | None:
    """A program as a chain; None where it is another kind of network."""
    nodes = list(program.nodes)
    flat = bool(nodes) and nodes[0].layer is FLATTEN
    starts = dict(zip(layout.names, _starts(layout), strict=True))
    widths: list[int] = []
    weights: list[int] = []
    biases: list[int | None] = []
    slopes: list[float] = []
    for i, node in enumerate(nodes[flat:], flat):
        if node.constants or node.inputs != (i,):
            return None
        if isinstance(node.layer, Leaky) and slopes and slopes[-1] == 1:
            slopes[-1] = node.layer.slope
        elif isinstance(node.layer, Linear):
            out, into = layout.shape(node.names["weight"])
            widths += [out] if widths else [into, out]
            weights.append(starts[node.names["weight"]])
            bias = node.names.get("bias")
            biases.append(None if bias is None else starts[bias])
            slopes.append(1.0)
        else:
            return None
    used = [name for node in nodes for name in node.names.values()]
    once = sorted(used) == sorted(layout.names)  # the gradient of a shared weight is a sum
    if not once or not weights or len(weights) > LAYERS or max(widths[1:]) > WIDEST:
        return None
    return Chain(tuple(widths), tuple(weights), tuple(biases), tuple(slopes), layout.d, flat)


def _starts(layout: Layout) -> list[int]:
    return [0, *accumulate(layout.sizes)][:-1]
