"""Calls that are linear in their one tensor, whatever else they are given: pads, running sums."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.utils._pytree import tree_leaves

from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.calls import Call, Ref
from binomctl.curvature.analytic.layers import LinearMap


def _linear(b: Builder, call: Call) -> Made:
    """A node whose transpose is the function's own backward pass: of a linear function it is the
    same everywhere, so that tangents need no derivative at all."""
    others = (call.args[1:], call.kwargs)
    if not isinstance(call.args[0], Ref) or any(isinstance(a, Ref) for a in tree_leaves(others)):
        return None

    def function(x: Tensor) -> Tensor:
        out: Tensor = call.function(x, *call.args[1:], **call.kwargs)
        return out

    def transpose(g: Tensor, shape: torch.Size) -> Tensor:
        back = vjp(function, g.new_zeros(shape))[1]
        out: Tensor = vmap(lambda one: back(one)[0])(g)
        return out

    layer = LinearMap(call.name, vmap(function), transpose)
    return b.add(layer, [b.torch(call.args[0])], call.results[0].shape)


def _pad(b: Builder, call: Call) -> Made:
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value")
    return _linear(b, call) if mode != "constant" or not value else None


def _interpolate(b: Builder, call: Call) -> Made:
    mode = call.get(3, "mode", "nearest")
    return _linear(b, call) if mode in ("nearest", "linear", "bilinear", "area") else None


MAKERS: dict[str, Maker] = {
    "pad": _pad,
    "interpolate": _interpolate,
    **dict.fromkeys(
        ("cumsum", "flip", "roll", "tril", "triu", "diagonal", "unfold", "fold", "pixel_shuffle",
         "pixel_unshuffle"),
        _linear,
    ),
}  # fmt: skip
