"""Calls of convolutions, and of their transposes, as nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from binomctl.curvature.analytic.block import WIDEST
from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.calls import Call, Constant, Parameter, Ref
from binomctl.curvature.analytic.conv import Conv
from binomctl.curvature.analytic.general_conv import Shape, convolution
from binomctl.curvature.analytic.of_shapes import reshaped
from binomctl.curvature.analytic.of_sums import added


def _conv(dims: int) -> Maker:
    def make(b: Builder, call: Call) -> Made:
        x, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
        stride, dilation = (
            _many(call.get(3, "stride", 1), dims),
            _many(call.get(5, "dilation", 1), dims),
        )
        padding, groups = call.get(4, "padding", 0), call.get(6, "groups", 1)
        pads = _padding(padding, weight.shape[2:], dilation, dims)
        if pads is None:
            return None
        fixed = all(isinstance(r, Parameter | Constant | None) for r in (weight, bias))
        shape = call.results[0].shape
        if dims == 2 and groups == 1 and fixed and len(x.shape) == 4:
            layer = Conv(
                (stride[0], stride[1]), (pads[0], pads[1]), (dilation[0], dilation[1]),
                method=b.method, wide=b.method == "per-task" and _is_wide(weight, x.shape, shape),
            )  # fmt: skip
            roles = {"weight": weight, "bias": bias}
            return b.add(layer, [b.image(x)], shape, image=True, roles=roles)
        how = Shape(stride, pads, dilation, False, (0,) * dims, groups)
        return _general(b, call, x, weight, bias, how)

    return make


def _is_wide(weight: Ref, images: Sequence[int], out: Sequence[int]) -> bool:
    """Whether a weight has more numbers than what it is applied to; the kernels take others."""
    numbers = weight.shape.numel()
    return max(weight.shape[:2]) > WIDEST and numbers > max(math.prod(images), math.prod(out))


def _transposed_conv(dims: int) -> Maker:
    def make(b: Builder, call: Call) -> Made:
        x, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
        names = (("stride", 1), ("padding", 0), ("output_padding", 0))
        stride, padding, output = (
            _many(call.get(i, n, d), dims) for i, (n, d) in enumerate(names, 3)
        )
        groups, dilation = call.get(6, "groups", 1), _many(call.get(7, "dilation", 1), dims)
        how = Shape(stride, padding, dilation, True, output, groups)
        return _general(b, call, x, weight, bias, how)

    return make


def _general(b: Builder, call: Call, x: Ref, weight: Ref, bias: Ref | None, how: Shape) -> int:
    shape, dims = call.results[0].shape, len(how.stride)
    value = b.torch(x)
    if len(b.shape(value)) == dims + 1:  # one example, without N
        value = reshaped(b, value, (1, *b.shape(value)))
    batched = shape if len(shape) == dims + 2 else (1, *shape)
    layer = convolution(how, b.method == "grouped")
    out = b.add(layer, [value, b.torch(weight)], batched)
    if bias is not None:
        out = added(b, out, reshaped(b, bias, (len(bias.example), *[1] * dims)), batched)
    return reshaped(b, out, shape)


def _many(value: Any, dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    values = tuple(int(v) for v in value)
    return values * dims if len(values) == 1 else values


def _padding(
    padding: Any, kernel: Sequence[int], dilation: Sequence[int], dims: int
) -> tuple[int, ...] | None:
    """Zeros on both sides; None where the sides differ."""
    if padding == "valid":
        return (0,) * dims
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(t // 2 for t in total) if all(t % 2 == 0 for t in total) else None
    return _many(padding, dims)


MAKERS: dict[str, Maker] = {
    **{f"conv{n}d": _conv(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed_conv(n) for n in (1, 2, 3)},
}
