"""Calls that are linear in their one tensor, whatever else they are given: pads, running sums."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.utils._pytree import tree_leaves

from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.calls import Call, Ref
from binomctl.curvature.analytic.layers import LinearMap


class DerivedLinear(LinearMap):
    """A linear map whose transpose torch derives."""


def _linear(b: Builder, call: Call, *, alone: bool = False) -> Made:
    """A node whose transpose is the function's own backward pass: of a linear function it is the
    same everywhere, so that tangents need no derivative at all.

    Args:
        alone: the function sees the points of the first axis one by one, so that those of all
            tasks may stand in one.
    """
    others = (call.args[1:], call.kwargs)
    if not isinstance(call.args[0], Ref) or any(isinstance(a, Ref) for a in tree_leaves(others)):
        return None

    def function(x: Tensor) -> Tensor:
        out: Tensor = call.function(x, *call.args[1:], **call.kwargs)
        return out

    def apply(x: Tensor) -> Tensor:
        if alone:
            each = function(x.flatten(0, 1))
            return each.reshape(*x.shape[:2], *each.shape[1:])
        out: Tensor = vmap(function)(x)
        return out

    def transpose(g: Tensor, shape: torch.Size) -> Tensor:
        if alone:
            joined = g.flatten(0, 1)
            (back,) = vjp(function, g.new_zeros(len(joined), *shape[1:]))[1](joined)
            whole: Tensor = back.reshape(*g.shape[:2], *shape[1:])
            return whole
        pull = vjp(function, g.new_zeros(shape))[1]
        out: Tensor = vmap(lambda one: pull(one)[0])(g)
        return out

    layer = DerivedLinear(call.name, apply, transpose)
    return b.add(layer, [b.torch(call.args[0])], call.results[0].shape)


def _by_point(b: Builder, call: Call) -> Made:
    return _linear(b, call, alone=True)


def _pad(b: Builder, call: Call) -> Made:
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value")
    if mode == "constant" and value:
        return None
    within = len(call.get(1, "pad")) < 2 * len(call.args[0].shape)  # not the points themselves
    return _linear(b, call, alone=within)


def _interpolate(b: Builder, call: Call) -> Made:
    mode = call.get(3, "mode", "nearest")
    return _by_point(b, call) if mode in ("nearest", "linear", "bilinear", "area") else None


MAKERS: dict[str, Maker] = {
    "pad": _pad,
    "interpolate": _interpolate,
    **dict.fromkeys(
        ("cumsum", "flip", "roll", "tril", "triu", "diagonal"), _linear
    ),
    **dict.fromkeys(("unfold", "fold", "pixel_shuffle", "pixel_unshuffle"), _by_point),
}  # fmt: skip
