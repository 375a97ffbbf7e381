"""Calls of sums, products and convolutions as nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from binomctl.curvature.analytic import elementwise as e
from binomctl.curvature.analytic.bilinear import MATMUL, MULTIPLY, contraction
from binomctl.curvature.analytic.block import WIDEST
from binomctl.curvature.analytic.builder import Builder, Made, Maker, Operand
from binomctl.curvature.analytic.conv import Conv
from binomctl.curvature.analytic.elementwise import Piecewise, scaled
from binomctl.curvature.analytic.general_conv import Shape, convolution
from binomctl.curvature.analytic.layers import Leaky, Linear, Smooth, Sum
from binomctl.curvature.analytic.of_shapes import reshaped
from binomctl.curvature.analytic.shapes import Add, permute
from binomctl.curvature.analytic.trace import Call, Constant, Parameter, Ref


def added(b: Builder, one: Operand, two: Operand, shape: Sequence[int], sign: int = 1) -> int:
    """one + sign two, broadcast to a shape."""
    first, second = b.value(one), b.value(two)
    if b.shape(first) == b.shape(second) and b.is_image(first) == b.is_image(second):
        return b.add(Sum() if sign == 1 else Add(sign), [first, second])
    return b.add(Add(sign), [b.torch(first), b.torch(second)], shape)


def multiplied(b: Builder, one: Operand, two: Operand, shape: Sequence[int]) -> int:
    """one times two, broadcast to a shape."""
    first, second = b.value(one), b.value(two)
    if b.shape(first) == b.shape(second) and b.is_image(first) == b.is_image(second):
        return b.add(MULTIPLY, [first, second])
    return b.add(MULTIPLY, [b.torch(first), b.torch(second)], shape)


def times(b: Builder, operand: Operand, number: float) -> int:
    """A value times a number."""
    layer = scaled(f"times {number}", number, lambda x: x * number)
    return b.add(layer, [b.value(operand)])


def _shifted(b: Builder, operand: Operand, number: float, sign: float) -> int:
    layer = scaled(f"{sign} x + {number}", sign, lambda x: sign * x + number)
    return b.add(layer, [b.value(operand)])


def _add(sign: int) -> Maker:
    def make(b: Builder, call: Call) -> Made:
        one, two = call.get(0, "input"), call.get(1, "other")
        alpha = call.get(2, "alpha", 1)
        if not isinstance(alpha, int | float):
            return None
        factor = sign * alpha
        shape = call.results[0].shape
        if not isinstance(two, Ref):
            return _shifted(b, one, float(factor * two), 1.0)
        if not isinstance(one, Ref):
            return _shifted(b, two, float(one), float(factor))
        if not _floating(one, two):
            return None
        if factor in (1, -1):
            return added(b, one, two, shape, int(factor))
        return added(b, one, times(b, two, float(factor)), shape)

    return make


def _rsub(b: Builder, call: Call) -> Made:
    one, two = call.args
    if isinstance(two, Ref):
        return added(b, two, one, call.results[0].shape, -1) if _floating(one, two) else None
    return _shifted(b, one, float(two), -1.0)


def _mul(b: Builder, call: Call) -> Made:
    one, two = call.get(0, "input"), call.get(1, "other")
    if not isinstance(two, Ref):
        return times(b, one, float(two))
    if not isinstance(one, Ref):
        return times(b, two, float(one))
    return multiplied(b, one, two, call.results[0].shape)


def _div(b: Builder, call: Call) -> Made:
    one, two = call.get(0, "input"), call.get(1, "other")
    if call.kwargs.get("rounding_mode") is not None:
        return None
    if not isinstance(two, Ref):
        layer = scaled(f"over {two}", 1 / two, lambda x: x / two)
        return b.add(layer, [b.value(one)])
    if not isinstance(one, Ref):
        return times(b, _reciprocal(b, two), float(one))
    if not _floating(one, two):
        return None
    return multiplied(b, one, _reciprocal(b, two), call.results[0].shape)


def _rdiv(b: Builder, call: Call) -> Made:
    one, two = call.args
    if isinstance(two, Ref) or not _floating(one):
        return None
    return times(b, _reciprocal(b, one), float(two))


def _reciprocal(b: Builder, operand: Operand) -> int:
    layer = Smooth("reciprocal", *e.CURVES["reciprocal"])
    return b.add(layer, [b.value(operand)])


def _floating(*refs: Ref) -> bool:
    return all(r.example.is_floating_point() for r in refs)


def _prelu(b: Builder, call: Call) -> Made:
    x, weight = call.get(0, "input"), call.get(1, "weight")
    value = b.torch(x)
    shape = b.shape(value)
    slope = b.torch(weight)
    if len(shape) > 1 and b.shape(slope).numel() > 1:  # along the channels
        slope = reshaped(b, slope, (b.shape(slope).numel(), *[1] * (len(shape) - 2)))
    below = Piecewise("negative part", lambda x: x.clamp(max=0), lambda x: (x <= 0).to(x.dtype))
    negative = b.add(MULTIPLY, [b.add(below, [value]), slope], shape)
    return added(b, b.add(Leaky(0.0), [value]), negative, shape)


# Matrix products ---------------------------------------------------------------------------------


def product(b: Builder, one: int, two: int) -> int:
    """The matrix product of two values of rank 2 or more."""
    x, y = b.shape(one), b.shape(two)
    batch = torch.broadcast_shapes(x[:-2], y[:-2])  # type: ignore[no-untyped-call]
    return b.add(MATMUL, [one, two], (*batch, x[-2], y[-1]))


def transposed(b: Builder, value: int) -> int:
    """The last two axes exchanged."""
    shape = b.shape(value)
    n = len(shape)
    order = [*range(n - 2), n - 1, n - 2]
    return b.add(permute(order), [value], [shape[i] for i in order])


def _matmul(b: Builder, call: Call) -> Made:
    one, two = call.get(0, "input"), call.get(1, "other", call.kwargs.get("mat2"))
    if call.name == "__rmatmul__":
        one, two = two, one
    if not isinstance(one, Ref) or not isinstance(two, Ref) or not _floating(one, two):
        return None
    x, y = b.torch(one), b.torch(two)
    if len(b.shape(x)) == 1:
        x = reshaped(b, x, (1, *b.shape(x)))
    if len(b.shape(y)) == 1:
        y = reshaped(b, y, (*b.shape(y), 1))
    return reshaped(b, product(b, x, y), call.results[0].shape)


def _linear(b: Builder, call: Call) -> Made:
    x, weight = call.get(0, "input"), call.get(1, "weight")
    bias, shape = call.get(2, "bias"), call.results[0].shape
    if not _floating(x, weight):
        return None
    value = b.torch(x)
    fixed = isinstance(weight, Parameter | Constant) and len(weight.shape) == 2
    if fixed and (bias is None or isinstance(bias, Parameter | Constant)):
        features = b.shape(value)[-1]
        rows = reshaped(b, value, (b.shape(value)[:-1].numel(), features))
        out = b.add(
            Linear(), [rows], (b.shape(rows)[0], weight.shape[0]),
            roles={"weight": weight, "bias": bias},
        )  # fmt: skip
        return reshaped(b, out, shape)
    w = b.torch(weight)
    if len(b.shape(w)) == 1:
        w = reshaped(b, w, (1, *b.shape(w)))
    rows = reshaped(b, value, (b.shape(value)[:-1].numel(), b.shape(value)[-1]))
    out = reshaped(b, product(b, rows, transposed(b, w)), shape)
    return out if bias is None else added(b, out, bias, shape)


def _einsum(b: Builder, call: Call) -> Made:
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    if not isinstance(equation, str) or len(operands) != 2 or "." in equation:
        return None
    left, arrow, out = equation.replace(" ", "").partition("->")
    one, two = left.split(",")
    simple = arrow and all(len(set(s)) == len(s) for s in (one, two, out))
    if not simple or set(one) - set(two + out) or set(two) - set(one + out):
        return None
    x, y = (b.torch(o) for o in operands)
    sizes = [*zip(one, b.shape(x), strict=True), *zip(two, b.shape(y), strict=True)]
    if len(set(sizes)) != len(dict(sizes)):  # an axis of 1 against a longer one
        return None
    return b.add(contraction(one, two, out), [x, y], call.results[0].shape)


# Convolutions ------------------------------------------------------------------------------------


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
    "add": _add(1),
    "__radd__": _add(1),
    "__add__": _add(1),
    "__iadd__": _add(1),
    "sub": _add(-1),
    "__isub__": _add(-1),
    "subtract": _add(-1),
    "__rsub__": _rsub,
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__", "__imul__"), _mul),
    **dict.fromkeys(("div", "divide", "true_divide", "__itruediv__", "__idiv__"), _div),
    **dict.fromkeys(("__rdiv__", "__rtruediv__"), _rdiv),
    **dict.fromkeys(("matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "mv", "dot"), _matmul),
    "linear": _linear,
    "prelu": _prelu,
    "einsum": _einsum,
    **{f"conv{n}d": _conv(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed_conv(n) for n in (1, 2, 3)},
}
