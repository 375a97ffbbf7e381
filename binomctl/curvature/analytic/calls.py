"""What a recording of a forward pass is made of: references to tensors, and calls on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ref:
    """A tensor that the forward pass met; the example is its value there, without a graph."""

    example: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.example.shape


@dataclass(frozen=True, eq=False)
class Input(Ref):
    """x itself."""


@dataclass(frozen=True, eq=False)
class Parameter(Ref):
    """A trainable parameter."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant(Ref):
    """Neither depends on x nor on a parameter; `read` gives its present value."""

    read: Callable[[], Tensor]
    live: bool
    """Whether the value may change from call to call: a buffer, say, and what comes of it."""


@dataclass(frozen=True, eq=False)
class Result(Ref):
    """What a call returned."""


@dataclass(frozen=True)
class Call:
    """One torch function on references and plain values."""

    function: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Result]
    path: str
    label: str
    """The type of the module whose forward it is, or the function's name."""

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.label} at '{self.path}'" if self.path else self.label


@dataclass(frozen=True)
class Trace:
    """All calls, in order, and what the module returned."""

    calls: list[Call]
    output: Ref


def constant(value: Tensor) -> Constant:
    """A tensor that is known now and never changes."""
    return Constant(value, lambda: value, False)


def floating(*refs: Ref) -> bool:
    """Whether all of them hold real numbers, so that something can be differentiated."""
    return all(r.example.is_floating_point() for r in refs)
