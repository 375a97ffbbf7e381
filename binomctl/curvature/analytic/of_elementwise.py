"""Calls of elementwise functions as nodes."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.curvature.analytic import elementwise as e
from binomctl.curvature.analytic.activations import SIGMOID, TANH, Fused, Leaky, Smooth
from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.calls import Call, Ref
from binomctl.curvature.analytic.elementwise import Piecewise, scaled
from binomctl.curvature.analytic.layer import Layer
from binomctl.curvature.analytic.leaf import Stop


def unary(b: Builder, call: Call, layer: Layer) -> Made:
    """A node on the first argument, in whichever layout that lies."""
    x = call.get(0, "input")
    return b.add(layer, [b.value(x)]) if x.example.is_floating_point() else None


def _curve(name: str, function: Callable[[Tensor], Tensor], curve: e.Curve) -> Maker:
    return lambda b, call: unary(b, call, Smooth(name, function, curve))


def _leaky(b: Builder, call: Call) -> Made:
    slope = float(call.get(1, "negative_slope", 0.01))
    if slope >= 0:
        return unary(b, call, Leaky(slope))
    layer = Piecewise(
        f"leaky {slope}",
        lambda x: F.leaky_relu(x, slope),
        lambda x: torch.where(x > 0, torch.ones_like(x), slope),
    )
    return unary(b, call, layer)


def _gelu(b: Builder, call: Call) -> Made:
    how = call.get(1, "approximate", "none")
    layer = Fused(
        f"gelu {how}",
        lambda x: F.gelu(x, approximate=how),
        lambda g, x: torch.ops.aten.gelu_backward(g, x, approximate=how),
        e.gelu if how == "none" else e.gelu_tanh,
    )
    return unary(b, call, layer)


def _silu(b: Builder, call: Call) -> Made:
    return unary(b, call, Fused("silu", F.silu, torch.ops.aten.silu_backward, e.silu))


def _elu(b: Builder, call: Call) -> Made:
    alpha = float(call.get(1, "alpha", 1.0))
    curve = e.exponential(alpha, 1.0, 1.0)
    return unary(b, call, Smooth(f"elu {alpha}", lambda x: F.elu(x, alpha), curve))


def _celu(b: Builder, call: Call) -> Made:
    alpha = float(call.get(1, "alpha", 1.0))
    curve = e.exponential(alpha, 1.0, 1 / alpha)
    return unary(b, call, Smooth(f"celu {alpha}", lambda x: F.celu(x, alpha), curve))


_SELU = e.exponential(1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)


def _softplus(b: Builder, call: Call) -> Made:
    beta, threshold = float(call.get(1, "beta", 1)), float(call.get(2, "threshold", 20))
    layer = Smooth(
        f"softplus {beta}", lambda x: F.softplus(x, beta, threshold), e.softplus(beta, threshold)
    )
    return unary(b, call, layer)


def _hardtanh(b: Builder, call: Call) -> Made:
    low, high = float(call.get(1, "min_val", -1.0)), float(call.get(2, "max_val", 1.0))
    return unary(b, call, _straight("hardtanh", lambda x: x.clamp(low, high), low, high))


def _straight(
    name: str, function: Callable[[Tensor], Tensor], low: float | None, high: float | None,
    slope: float = 1.0, open_: bool = True,
) -> Piecewise:  # fmt: skip
    return Piecewise(f"{name} {low} {high}", function, e.inside(low, high, slope, open_))


def _clamp(b: Builder, call: Call) -> Made:
    return _clamped(b, call, call.get(1, "min"), call.get(2, "max"))


def _clamped(b: Builder, call: Call, low: Any, high: Any) -> Made:
    if isinstance(low, Ref) or isinstance(high, Ref):
        return None
    return unary(b, call, _straight("clamp", lambda x: x.clamp(low, high), low, high, open_=False))


def _pow(b: Builder, call: Call) -> Made:
    n, x = call.get(1, "exponent"), call.get(0, "input")
    if not isinstance(n, Real) or not isinstance(x, Ref):
        return None
    number = float(n)
    return unary(b, call, Smooth(f"power {number}", lambda x: x**number, e.power(number)))


def same(b: Builder, call: Call) -> Made:
    """The value itself, under another name."""
    x = call.get(0, "input")
    return b.value(x) if x.example.dtype == call.results[0].example.dtype else None


def _dropout(b: Builder, call: Call) -> Made:
    p, training = call.get(1, "p", 0.5), call.get(2, "training", True)
    return b.value(call.get(0, "input")) if p == 0 or not training else None


MAKERS: dict[str, Maker] = {
    **{name: _curve(name, *both) for name, both in e.CURVES.items()},
    "log_sigmoid": _curve("logsigmoid", *e.CURVES["logsigmoid"]),
    "relu": lambda b, call: unary(b, call, Leaky(0.0)),
    "leaky_relu": _leaky,
    "tanh": lambda b, call: unary(b, call, TANH),
    "sigmoid": lambda b, call: unary(b, call, SIGMOID),
    "gelu": _gelu,
    "silu": _silu,
    "elu": _elu,
    "celu": _celu,
    "selu": _curve("selu", F.selu, _SELU),
    "softplus": _softplus,
    "hardtanh": _hardtanh,
    "relu6": lambda b, call: unary(b, call, _straight("relu6", F.relu6, 0.0, 6.0)),
    "hardsigmoid": lambda b, call: unary(
        b, call, _straight("hardsigmoid", F.hardsigmoid, -3.0, 3.0, 1 / 6)
    ),
    "clamp": _clamp,
    "clamp_min": lambda b, call: _clamped(b, call, call.get(1, "min"), None),
    "clamp_max": lambda b, call: _clamped(b, call, None, call.get(1, "max")),
    "abs": lambda b, call: unary(b, call, Piecewise("abs", torch.abs, torch.sign)),
    "neg": lambda b, call: unary(b, call, scaled("negative", -1.0, torch.neg)),
    "pow": _pow,
    "detach": lambda b, call: unary(b, call, Stop()),
    **dict.fromkeys(("clone", "contiguous", "to", "float", "double", "type_as", "type"), same),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"), _dropout),
}
