"""Calls of sums, differences, products and quotients, element by element, as nodes."""

from __future__ import annotations

from collections.abc import Sequence

from binomctl.curvature.analytic import elementwise as e
from binomctl.curvature.analytic.activations import Leaky, Smooth
from binomctl.curvature.analytic.bilinear import MULTIPLY
from binomctl.curvature.analytic.builder import Builder, Made, Maker, Operand
from binomctl.curvature.analytic.calls import Call, Ref, floating
from binomctl.curvature.analytic.elementwise import Piecewise, scaled
from binomctl.curvature.analytic.layers import Sum
from binomctl.curvature.analytic.of_shapes import reshaped
from binomctl.curvature.analytic.shapes import Add


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
        if not floating(one, two):
            return None
        if factor in (1, -1):
            return added(b, one, two, shape, int(factor))
        return added(b, one, times(b, two, float(factor)), shape)

    return make


def _rsub(b: Builder, call: Call) -> Made:
    one, two = call.args
    if isinstance(two, Ref):
        return added(b, two, one, call.results[0].shape, -1) if floating(one, two) else None
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
    if not floating(one, two):
        return None
    return multiplied(b, one, _reciprocal(b, two), call.results[0].shape)


def _rdiv(b: Builder, call: Call) -> Made:
    one, two = call.args
    if isinstance(two, Ref) or not floating(one):
        return None
    return times(b, _reciprocal(b, one), float(two))


def _reciprocal(b: Builder, operand: Operand) -> int:
    layer = Smooth("reciprocal", *e.CURVES["reciprocal"])
    return b.add(layer, [b.value(operand)])


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
    "prelu": _prelu,
}
