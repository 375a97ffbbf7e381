"""Programs by the shape of inputs: sizes may be built into what a forward pass was seen to do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from binomctl.curvature.analytic.program import Program

Kind = tuple[torch.Size, torch.dtype]


class Programs:
    """The program of a module for every shape of inputs, recognised when it comes.

    Args:
        recognise: the program for inputs x of one task [N, ...], or None: for any.
        x: the inputs that are known now; None where one program serves all.

    Raises:
        Unsupported: a layer the algebra does not know, by its path.
    """

    def __init__(self, recognise: Callable[[Tensor | None], Program], x: Tensor | None) -> None:
        self._recognise = recognise
        self.first = recognise(x)
        self._by_kind: dict[Kind, Program] | None = None
        if x is not None:
            self._by_kind = {_kind(channels_last(x.unsqueeze(0))): self.first}

    def of(self, x: Tensor) -> Program:
        """The program for inputs [B, N, ...], images channels last.

        Raises:
            Unsupported: the network does to inputs of this shape what the algebra does not know.
        """
        if self._by_kind is None:
            return self.first
        kind = _kind(x)
        if kind not in self._by_kind:
            task = x[0].movedim(-1, 1) if x.dim() == 5 else x[0]
            self._by_kind[kind] = self._recognise(task)
        return self._by_kind[kind]


def _kind(x: Tensor) -> Kind:
    """What a program of its own belongs to: one task's shape and type."""
    return x.shape[1:], x.dtype


def channels_last(x: Tensor) -> Tensor:
    """Images [B, N, C, H, W] as [B, N, H, W, C]; other inputs as they are."""
    if x.dim() != 5:
        return x
    B, N, C, H, W = x.shape
    # One channel: the same memory, but with the strides by which torch knows the format.
    return x.reshape(B, N, H, W, 1) if C == 1 else x.movedim(2, -1).contiguous()
