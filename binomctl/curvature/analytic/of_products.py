"""Calls of matrix products, linear layers and einsum as nodes."""

from __future__ import annotations

import torch

from binomctl.curvature.analytic.bilinear import MATMUL, contraction
from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.calls import Call, Constant, Parameter, Ref, floating
from binomctl.curvature.analytic.layers import Linear
from binomctl.curvature.analytic.of_shapes import reshaped
from binomctl.curvature.analytic.of_sums import added
from binomctl.curvature.analytic.shapes import permute


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
    if not isinstance(one, Ref) or not isinstance(two, Ref) or not floating(one, two):
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
    if not floating(x, weight):
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


MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "mv", "dot"), _matmul),
    "linear": _linear,
    "einsum": _einsum,
}
