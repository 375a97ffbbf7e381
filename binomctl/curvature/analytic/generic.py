"""Any torch function as a layer: its four maps by torch.func, on that function alone.

One layer that the algebra has no closed form for then costs itself, and not the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from binomctl.curvature.analytic.layer import Cache, Parameters

Function = Callable[..., Tensor]
"""Tensors of one task -> a tensor."""


@dataclass(frozen=True, eq=False)
class Generic:
    """A function of one task's tensors, for T tasks at once.

    Args:
        smooth: which of the inputs are floating: the others have no gradient.
        looped: the function knows no vmap; the tasks go one after another.
    """

    name: str
    function: Function
    smooth: tuple[bool, ...]
    looped: bool = False
    stops: bool = False
    """Whether the output is no floating tensor."""

    def __post_init__(self) -> None:
        # What torch imports at the first jvp, a quarter of a second that only such layers need; it
        # is imported here, before threads: the scripts in it warn that they are deprecated.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module("torch._decomp.decompositions_for_jvp")

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        cache.primal = list(xs)
        with sdpa_kernel(SDPBackend.MATH):
            return self._batched(*xs)

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        which = self._which(wanted)
        with sdpa_kernel(SDPBackend.MATH):
            return self._spread(self._back(cache.primal, which, gy), which), {}

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        cache.tangent = list(txs)
        which = [i for i, t in enumerate(txs) if t is not None and self.smooth[i]]
        if not which:
            return None
        with sdpa_kernel(SDPBackend.MATH):
            at = tuple(cache.primal[i].contiguous() for i in which)
            along = tuple(t.contiguous() for i in which if (t := txs[i]) is not None)
            ty: Tensor = jvp(self._of(cache.primal, which), at, along)[1]
            return ty

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        which, xs = self._which(wanted), cache.primal
        if not which:
            return [None] * len(xs), {}
        moves = [i for i, t in enumerate(cache.tangent) if t is not None and self.smooth[i]]

        def back(g: Tensor, *moving: Tensor) -> tuple[Tensor, ...]:
            at = list(xs)
            for i, x in zip(moves, moving, strict=True):
                at[i] = x
            return self._back(at, which, g)

        at = (gy.contiguous(), *(xs[i].contiguous() for i in moves))
        along = (tgy.contiguous(), *(cache.tangent[i].contiguous() for i in moves))
        with sdpa_kernel(SDPBackend.MATH):
            out = jvp(back, at, along)[1]
        return self._spread(out, which), {}

    def _batched(self, *xs: Tensor) -> Tensor:
        if not self.looped:
            out: Tensor = vmap(self.function)(*xs)
            return out
        return torch.stack([self.function(*rows) for rows in zip(*xs, strict=True)])

    def _which(self, wanted: Sequence[bool]) -> list[int]:
        return [i for i, w in enumerate(wanted) if w and self.smooth[i]]

    def _of(self, xs: Sequence[Tensor], which: Sequence[int]) -> Function:
        """A function of some of the inputs."""

        def function(*varying: Tensor) -> Tensor:
            at = list(xs)
            for i, x in zip(which, varying, strict=True):
                at[i] = x
            return self._batched(*at)

        return function

    def _back(self, xs: Sequence[Tensor], which: Sequence[int], g: Tensor) -> tuple[Tensor, ...]:
        if not which:
            return ()
        out: tuple[Tensor, ...] = vjp(self._of(xs, which), *(xs[i] for i in which))[1](g)
        return out

    def _spread(self, found: Sequence[Tensor], which: Sequence[int]) -> list[Tensor | None]:
        by_place = dict(zip(which, found, strict=True))
        return [by_place.get(i) for i in range(len(self.smooth))]


def check(layer: Generic, examples: Sequence[Tensor]) -> Tensor:
    """Run all four maps once, on two tasks with the same inputs; the first one's output.

    Raises:
        whatever torch raises where it cannot.
    """
    xs = [torch.stack([e, e]) for e in examples]
    with torch.no_grad():
        cache = Cache()
        y = layer.forward({}, xs, cache)
        if y.is_floating_point() and any(layer.smooth):
            g = torch.ones_like(y)
            layer.backward({}, cache, g, layer.smooth)
            along = [
                torch.ones_like(x) if s else None for x, s in zip(xs, layer.smooth, strict=True)
            ]
            layer.tangent({}, {}, cache, along)
            layer.tangent_backward({}, {}, cache, g, g, layer.smooth)
    return y[0]
