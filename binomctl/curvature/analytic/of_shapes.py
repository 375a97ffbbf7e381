"""Calls that move numbers as nodes: views, slices, sums and means, concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from binomctl.curvature.analytic.builder import Builder, Made, Maker, Operand
from binomctl.curvature.analytic.calls import Call, Ref
from binomctl.curvature.analytic.layers import FLATTEN
from binomctl.curvature.analytic.shapes import Concat, expand, index, permute, reduce, reshape

_SIZES = (2, 3, 5, 7, 11, 13, 17, 19)


def reshaped(b: Builder, operand: Operand, shape: Sequence[int]) -> int:
    """The operand in another shape; an image is flattened as torch has it."""
    value = b.value(operand)
    old = b.shape(value)
    if tuple(old) == tuple(shape):
        return value
    if b.is_image(value) and tuple(shape) == (old[0], old[1:].numel()):
        return b.add(FLATTEN, [value], shape)
    return b.add(reshape(tuple(shape)), [b.torch(value)], shape)


def _reshape(b: Builder, call: Call) -> Made:
    if any(isinstance(a, torch.dtype) for a in (*call.args, *call.kwargs.values())):
        return None
    return reshaped(b, call.args[0], call.results[0].shape)


def _permute(b: Builder, call: Call) -> Made:
    x = b.torch(call.args[0])
    rank = len(b.shape(x))
    if rank > len(_SIZES):
        return None
    # Which axis goes where shows in the shape of a tensor all of whose axes differ.
    marked = torch.empty(_SIZES[:rank], device="meta")
    moved = call.function(marked, *call.args[1:], **call.kwargs)
    order = [_SIZES.index(n) for n in moved.shape]
    return b.add(permute(order), [x], call.results[0].shape)


def _expand(b: Builder, call: Call) -> Made:
    shape = call.results[0].shape
    return b.add(expand(tuple(shape)), [b.torch(call.args[0])], shape)


def _getitem(b: Builder, call: Call) -> Made:
    where = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    plain = (int, slice, type(None), type(Ellipsis))
    if not all(isinstance(w, plain) and not isinstance(w, bool) for w in where):
        return None
    if any(isinstance(r, Ref) for r in tree_leaves([[w.start, w.stop] for w in where if
                                                     isinstance(w, slice)])):  # fmt: skip
        return None
    return b.add(index(where), [b.torch(call.args[0])], call.results[0].shape)


def _select(b: Builder, call: Call) -> Made:
    dim, i = call.get(1, "dim"), call.get(2, "index")
    return _at(b, call, dim, [i])


def _narrow(b: Builder, call: Call) -> Made:
    dim, start, length = call.get(1, "dim"), call.get(2, "start"), call.get(3, "length")
    if isinstance(start, Ref):
        return None
    start = start % call.args[0].shape[dim] if start < 0 else start
    return _at(b, call, dim, [slice(start, start + length)])


def _unbind(b: Builder, call: Call) -> Made:
    return _at(b, call, call.get(1, "dim", 0), list(range(len(call.results))))


def _split(b: Builder, call: Call) -> Made:
    dim = call.get(2, "dim", 0)
    ends, slices = 0, []
    for result in call.results:
        size = result.shape[dim]
        slices.append(slice(ends, ends + size))
        ends += size
    return _at(b, call, dim, slices)


def _at(b: Builder, call: Call, dim: int, places: Sequence[Any]) -> Made:
    x = b.torch(call.args[0])
    axis = dim % len(b.shape(x))
    return [
        b.add(index((*[slice(None)] * axis, place)), [x], result.shape)
        for place, result in zip(places, call.results, strict=True)
    ]


def _cat(b: Builder, call: Call) -> Made:
    parts = list(call.get(0, "tensors"))
    shape = call.results[0].shape
    axis = call.get(1, "dim", 0) % len(shape)
    if any(len(p.shape) != len(shape) or not p.example.is_floating_point() for p in parts):
        return None
    return b.add(Concat(axis), [b.torch(p) for p in parts], shape)


def _stack(b: Builder, call: Call) -> Made:
    parts = list(call.get(0, "tensors"))
    shape = call.results[0].shape
    axis = call.get(1, "dim", 0) % len(shape)
    one = [1 if i == axis else n for i, n in enumerate(shape)]
    if not all(p.example.is_floating_point() for p in parts):
        return None
    return b.add(Concat(axis), [reshaped(b, b.torch(p), one) for p in parts], shape)


def _reduce(mean: bool) -> Maker:
    def make(b: Builder, call: Call) -> Made:
        x = call.get(0, "input")
        if call.kwargs.get("dtype") is not None or not x.example.is_floating_point():
            return None
        value = b.torch(x)
        rank = len(b.shape(value))
        dims = call.get(1, "dim", call.kwargs.get("axis"))
        if isinstance(dims, torch.dtype):
            return None
        if dims is None or dims == () or dims == []:
            dims = range(rank)
        axes = sorted({d % rank for d in ([dims] if isinstance(dims, int) else dims)})
        keep = bool(call.get(2, "keepdim", False))
        return b.add(reduce(axes, keep, mean), [value], call.results[0].shape)

    return make


MAKERS: dict[str, Maker] = {
    **dict.fromkeys(
        ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as",
         "reshape_as", "ravel"), _reshape),
    **dict.fromkeys(
        ("permute", "transpose", "t", "mT", "T", "movedim", "moveaxis", "swapaxes", "swapdims"),
        _permute),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expand),
    "__getitem__": _getitem,
    "select": _select,
    "narrow": _narrow,
    "unbind": _unbind,
    **dict.fromkeys(("split", "chunk", "split_with_sizes", "tensor_split"), _split),
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "stack": _stack,
    "sum": _reduce(mean=False),
    "mean": _reduce(mean=True),
}  # fmt: skip
