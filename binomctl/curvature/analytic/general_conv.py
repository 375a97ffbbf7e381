"""Convolutions in any number of dimensions, transposed or not, with groups: torch's layout
[T, N, C, ...], the weight a value like the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.curvature.analytic.bilinear import Bilinear

_backward = torch.ops.aten.convolution_backward


@dataclass(frozen=True)
class Shape:
    """What torch.convolution takes."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


def convolution(shape: Shape, grouped: bool) -> Bilinear:
    """The bilinear map of x [T, N, C, ...] and w [T, O, C / groups, ...].

    Args:
        grouped: all tasks as one grouped convolution (a GPU), or one after another (a CPU).
    """
    s = shape
    rest = (s.stride, s.padding, s.dilation, s.transposed, s.output_padding)

    def apply(x: Tensor, w: Tensor) -> Tensor:
        if not grouped:
            rows = zip(x, w, strict=True)
            return torch.stack([torch.convolution(a, b, None, *rest, s.groups) for a, b in rows])
        out = torch.convolution(_joined(x), w.flatten(0, 1), None, *rest, s.groups * len(w))
        return _split(out, len(w))

    def back(g: Tensor, x: Tensor, w: Tensor, which: tuple[bool, bool, bool]) -> Tensor:
        at = 0 if which[0] else 1
        if not grouped:
            rows = zip(g, x, w, strict=True)
            parts = [_backward(c, a, b, None, *rest, s.groups, which)[at] for c, a, b in rows]
            return torch.stack(parts)
        groups = s.groups * len(w)
        out: Tensor = _backward(
            _joined(g), _joined(x), w.flatten(0, 1), None, *rest, groups, which
        )[at]
        return _split(out, len(w)) if at == 0 else out.view(w.shape)

    return Bilinear(
        str(shape),
        apply,
        # Which numbers the other operand holds makes no difference to either transpose.
        lambda g, w, size: back(g, w.new_empty(1).expand(size), w, (True, False, False)),
        lambda g, x, size: back(g, x, x.new_empty(1).expand(size), (False, True, False)),
    )


def _joined(x: Tensor) -> Tensor:
    """[T, N, C, ...] -> [N, T * C, ...]."""
    return x.transpose(0, 1).flatten(1, 2)


def _split(x: Tensor, T: int) -> Tensor:
    """[N, T * C, ...] -> [T, N, C, ...]."""
    return x.view(len(x), T, -1, *x.shape[2:]).transpose(0, 1)
