"""A layer as four maps: forward, backward, tangent, tangent backward; no autograd anywhere.

Leading axis T: tasks, or tasks x points, each with parameters of its own. Images are channels last,
[T, N, H, W, C], vectors [T, N, F]. A layer keeps what its later maps need in a cache of its own;
None stands for a tangent or a gradient that is zero. With the prefix t for tangents, one
Hessian-vector product is a tangent and a tangent-backward pass: d/de of the gradient at
parameters + e v.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

Parameters = dict[str, Tensor]
"""A layer's own parameters by their role ("weight", "bias"), each [T, ...]."""


@dataclass
class Cache:
    """What one layer keeps of one linearisation; `tangent` of the direction at hand."""

    primal: Any = None
    tangent: Any = None


class Layer(Protocol):
    """One node of a network; inputs and their gradients are as many as it has."""

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        """The output, and the cache filled."""
        ...

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        """Gradients of the inputs that are wanted, and of the parameters."""
        ...

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        """The tangent of the output."""
        ...


@runtime_checkable
class Curved(Layer, Protocol):
    """A layer whose `backward` changes with its parameters or its inputs. Of any other, a linear
    map between kinks, the tangent of `backward` is `backward` of the tangent."""

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        """Tangents of what `backward` returned."""
        ...


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two tensors that may be zero."""
    if a is None or b is None:
        return a if b is None else b
    return a + b
