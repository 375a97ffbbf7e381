"""Calls of normalisations as nodes: of batches, layers, groups and instances, and softmax."""

from __future__ import annotations

import types
from typing import Any

import torch

from binomctl.curvature.analytic.bilinear import MULTIPLY
from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.calls import Call, Constant, Parameter, Ref, constant
from binomctl.curvature.analytic.layers import Norm
from binomctl.curvature.analytic.norm_block import NormBlock
from binomctl.curvature.analytic.normalise import FixedNorm, Normalise, Softmax
from binomctl.curvature.analytic.of_shapes import reshaped
from binomctl.curvature.analytic.of_sums import added


def _softmax(log: bool) -> Maker:
    def make(b: Builder, call: Call) -> Made:
        dim = call.get(1, "dim")
        if not isinstance(dim, int) or call.kwargs.get("dtype") is not None:
            return None
        if len(call.args) > 2 and not isinstance(call.args[2], int):
            return None
        x = b.torch(call.get(0, "input"))
        rank = len(b.shape(x))
        return b.add(Softmax(dim % rank + 1, log), [x]) if rank else None

    return make


def _scaled(
    b: Builder, value: int, weight: Ref | None, bias: Ref | None, shape: tuple[int, ...]
) -> int:
    """value times weight plus bias, both seen in a shape that broadcasts."""
    whole = b.shape(value)
    if weight is not None:
        value = b.add(MULTIPLY, [value, reshaped(b, weight, shape)], whole)
    return value if bias is None else added(b, value, reshaped(b, bias, shape), whole)


def _batch_norm(b: Builder, call: Call) -> Made:
    if not isinstance(call.function, types.FunctionType):
        return None  # torch.batch_norm, whose arguments have another order
    x, mean, var = (call.get(i, n) for i, n in enumerate(("input", "running_mean", "running_var")))
    weight, bias = call.get(3, "weight"), call.get(4, "bias")
    training, eps = call.get(5, "training", False), float(call.get(7, "eps", 1e-5))
    roles = {"weight": weight, "bias": bias}
    fixed = all(isinstance(r, Parameter | Constant | None) for r in (weight, bias))
    if training and mean is not None:
        return None
    value = b.value(x)
    if not training:
        if not fixed or not isinstance(mean, Constant) or not isinstance(var, Constant):
            return None
        axis = len(b.shape(value)) if b.is_image(value) else 2
        return b.add(FixedNorm(eps, axis), [value], roles=roles | {"mean": mean, "var": var})
    rank = len(b.shape(value))
    if rank == 4 and fixed:
        C = b.shape(value)[1]
        for role, fill in (("weight", torch.ones), ("bias", torch.zeros)):
            if roles[role] is None:
                roles[role] = constant(fill(C))
        return b.add(
            Norm(NormBlock(eps)), [b.image(value)], b.shape(value), image=True, roles=roles
        )
    value = b.torch(value)
    axes = (1, *range(3, rank + 1))
    out = b.add(Normalise(axes, eps), [value])
    return _scaled(b, out, weight, bias, (b.shape(value)[1], *[1] * (rank - 2)))


def _layer_norm(b: Builder, call: Call) -> Made:
    shape, eps = call.get(1, "normalized_shape"), float(call.get(4, "eps", 1e-5))
    value = b.torch(call.get(0, "input"))
    out = b.add(Normalise(_last(b, value, shape), eps), [value])
    return _scaled(b, out, call.get(2, "weight"), call.get(3, "bias"), tuple(shape))


def _rms_norm(b: Builder, call: Call) -> Made:
    x, shape, eps = call.get(0, "input"), call.get(1, "normalized_shape"), call.get(3, "eps")
    value = b.torch(x)
    eps = torch.finfo(x.example.dtype).eps if eps is None else float(eps)
    out = b.add(Normalise(_last(b, value, shape), eps, centred=False), [value])
    return _scaled(b, out, call.get(2, "weight"), None, tuple(shape))


def _last(b: Builder, value: int, shape: Any) -> tuple[int, ...]:
    rank = len(b.shape(value))
    return tuple(range(rank - len(shape) + 1, rank + 1))


def _group_norm(b: Builder, call: Call) -> Made:
    x, groups, eps = (
        call.get(0, "input"),
        call.get(1, "num_groups"),
        float(call.get(4, "eps", 1e-5)),
    )
    value = b.torch(x)
    shape = b.shape(value)
    return _grouped(b, value, groups, eps, call.get(2, "weight"), call.get(3, "bias"), shape)


def _instance_norm(b: Builder, call: Call) -> Made:
    value = b.torch(call.get(0, "input"))
    shape = b.shape(value)
    if not isinstance(call.function, types.FunctionType) or len(shape) < 3:
        return None
    if not call.get(5, "use_input_stats", True) or call.get(1, "running_mean") is not None:
        return None
    eps = float(call.get(7, "eps", 1e-5))
    return _grouped(b, value, shape[1], eps, call.get(3, "weight"), call.get(4, "bias"), shape)


def _grouped(
    b: Builder, value: int, groups: int, eps: float, weight: Ref | None, bias: Ref | None,
    shape: torch.Size,
) -> int:  # fmt: skip
    split = reshaped(b, value, (shape[0], groups, shape[1:].numel() // groups))
    out = reshaped(b, b.add(Normalise((3,), eps), [split]), shape)
    return _scaled(b, out, weight, bias, (shape[1], *[1] * (len(shape) - 2)))


MAKERS: dict[str, Maker] = {
    "softmax": _softmax(log=False),
    "log_softmax": _softmax(log=True),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
}
