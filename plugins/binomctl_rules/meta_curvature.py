"""Meta-Curvature: M transforms each layer's gradient mode by mode (Park and Oliva 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.flat import Layout
from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class MetaCurvature:
    """Meta-learned Kronecker (mode) products on each layer's gradient (Park and Oliva 2019).

    A weight [out, in, *kernel] has three matrices, out x out, in x in and f x f with f the
    number of kernel positions; a linear weight has the first two; a vector (a bias, a scale) has
    one factor per entry. All start at the identity.
    """

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        parts = [
            torch.ones(n) if diagonal else torch.eye(n).flatten()
            for shape in layout.shapes
            for n, diagonal in _modes(shape)
        ]
        return torch.cat(parts)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return self._product(m, v, layout, transpose=False)

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return self._product(m, v, layout, transpose=True)

    def _product(self, m: Tensor, v: Tensor, layout: Layout, transpose: bool) -> Tensor:
        factors = _factors(m, layout)
        out = {}
        for name, part in layout.unflatten(v).items():
            shape = layout.shape(name)
            modes = [next(factors) for _ in _modes(shape)]
            if len(shape) < 2:
                out[name] = part * modes[0].view(shape)
                continue
            sizes = [n for n, _ in _modes(shape)]
            tensor = part.reshape(*v.shape[:-1], *sizes)
            for axis, matrix in enumerate(modes):
                at = v.dim() - 1 + axis
                matrix = matrix.mT if transpose else matrix
                tensor = torch.tensordot(tensor, matrix, dims=([at], [1])).movedim(-1, at)
            out[name] = tensor.reshape(part.shape)
        return layout.flatten(out)


def _modes(shape: torch.Size) -> list[tuple[int, bool]]:
    """The size of every mode of a parameter, and whether its factor is a diagonal."""
    if len(shape) < 2:
        return [(math.prod(shape), True)]
    kernel = math.prod(shape[2:])
    return [(shape[0], False), (shape[1], False)] + ([(kernel, False)] if len(shape) > 2 else [])


def _factors(m: Tensor, layout: Layout) -> Iterator[Tensor]:
    start = 0
    for shape in layout.shapes:
        for n, diagonal in _modes(shape):
            size = n if diagonal else n * n
            part = m[start : start + size]
            yield part if diagonal else part.view(n, n)
            start += size
