"""Calls of normalisations, pools, softmax, attention and embeddings as nodes."""

from __future__ import annotations

import math
import types
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.curvature.analytic.bilinear import MULTIPLY
from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.layers import GLOBAL_AVERAGE, LinearMap, MaxPool, Norm
from binomctl.curvature.analytic.norm_block import NormBlock, Pool
from binomctl.curvature.analytic.normalise import FixedNorm, Normalise, Softmax
from binomctl.curvature.analytic.of_products import added, product, times, transposed
from binomctl.curvature.analytic.of_shapes import reshaped
from binomctl.curvature.analytic.shapes import Gather
from binomctl.curvature.analytic.trace import Call, Constant, Parameter, Ref


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


# Normalisation -----------------------------------------------------------------------------------


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
                roles[role] = _filled(fill(C))
        return b.add(
            Norm(NormBlock(eps)), [b.image(value)], b.shape(value), image=True, roles=roles
        )
    value = b.torch(value)
    axes = (1, *range(3, rank + 1))
    out = b.add(Normalise(axes, eps), [value])
    return _scaled(b, out, weight, bias, (b.shape(value)[1], *[1] * (rank - 2)))


def _filled(value: Tensor) -> Constant:
    return Constant(value, lambda: value, False)


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


# Pools -------------------------------------------------------------------------------------------


def _max_pool(dims: int) -> Maker:
    def make(b: Builder, call: Call) -> Made:
        names = (("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1),
                 ("ceil_mode", False), ("return_indices", False))  # fmt: skip
        kernel, stride, padding, dilation, ceil, indices = (
            call.get(i, n, d) for i, (n, d) in enumerate(names, 1)
        )
        x = call.get(0, "input")
        if indices or len(x.shape) != dims + 2:
            return None
        k = _pair(kernel, dims, 1)
        s = k if stride in (None, [], ()) else _pair(stride, dims, 1)
        pool = Pool(k, s, _pair(padding, dims, 0), _pair(dilation, dims, 1), bool(ceil))
        value, shape = x, call.results[0].shape
        if dims == 1:
            value = reshaped(b, b.torch(x), (*x.shape[:2], 1, x.shape[2]))
            shape = torch.Size((*shape[:2], 1, shape[2]))
        out = b.add(MaxPool(pool), [b.image(value)], shape, image=True)
        return out if dims == 2 else reshaped(b, b.torch(out), call.results[0].shape)

    return make


def _pair(value: Any, dims: int, missing: int) -> tuple[int, int]:
    """By height and width; a line has a height of 1."""
    values = [value] if isinstance(value, int) else [int(v) for v in value]
    if dims == 1:
        return missing, values[0]
    return values[0], values[-1]


def _avg_pool(dims: int) -> Maker:
    def make(b: Builder, call: Call) -> Made:
        names = (("kernel_size", None), ("stride", None), ("padding", 0), ("ceil_mode", False),
                 ("count_include_pad", True), ("divisor_override", None))  # fmt: skip
        kernel, stride, padding, ceil, counted, divisor = (
            call.get(i, n, d) for i, (n, d) in enumerate(names, 1)
        )
        x = call.get(0, "input")
        if len(x.shape) != dims + 2:
            return None
        k = _pair(kernel, dims, 1)
        s = k if stride in (None, [], ()) else _pair(stride, dims, 1)
        how = (k, s, _pair(padding, dims, 0), bool(ceil), bool(counted), divisor)

        def back(g: Tensor, x: Tensor) -> Tensor:
            out: Tensor = torch.ops.aten.avg_pool2d_backward(g, x, *how)
            return out

        return _pooled(b, call, dims, f"average {how}", lambda x: F.avg_pool2d(x, *how), back)

    return make


def _adaptive(dims: int) -> Maker:
    def make(b: Builder, call: Call) -> Made:
        x, size = call.get(0, "input"), call.results[0].shape
        if len(x.shape) != dims + 2:
            return None
        if dims == 2 and tuple(size[2:]) == (1, 1):
            return b.add(GLOBAL_AVERAGE, [b.image(x)], size, image=True)
        to = (1, size[-1]) if dims == 1 else (size[2], size[3])

        def back(g: Tensor, x: Tensor) -> Tensor:
            out: Tensor = torch.ops.aten._adaptive_avg_pool2d_backward(g, x)
            return out

        return _pooled(b, call, dims, f"to {to}", lambda x: F.adaptive_avg_pool2d(x, to), back)

    return make


def _pooled(b: Builder, call: Call, dims: int, name: str, apply: Any, back: Any) -> int:
    """A linear map of images [M, C, H, W], on all tasks' images together."""
    x, shape = call.get(0, "input"), call.results[0].shape
    lines = dims == 1

    def on_all(x: Tensor) -> Tensor:
        out: Tensor = apply(_flat(x, lines))
        out = out.squeeze(-2) if lines else out
        return out.view(*x.shape[:2], *out.shape[1:])

    def transpose(g: Tensor, old: torch.Size) -> Tensor:
        like = g.new_empty(1).expand(len(g) * old[0], *old[1:])
        out: Tensor = back(_flat(g, lines), like.unsqueeze(-2) if lines else like.contiguous())
        return out.reshape(len(g), *old)

    return b.add(LinearMap(name, on_all, transpose), [b.torch(x)], shape)


def _flat(x: Tensor, lines: bool) -> Tensor:
    out = x.flatten(0, 1)
    return out.unsqueeze(-2) if lines else out


# Attention and embeddings ------------------------------------------------------------------------


def _attention(b: Builder, call: Call) -> Made:
    names = (("attn_mask", None), ("dropout_p", 0.0), ("is_causal", False), ("scale", None),
             ("enable_gqa", False))  # fmt: skip
    mask, dropout, causal, scale, gqa = (call.get(i, n, d) for i, (n, d) in enumerate(names, 3))
    if dropout or gqa or (mask is not None and not isinstance(mask, Constant)):
        return None
    q, k, v = (b.torch(call.get(i, n)) for i, n in enumerate(("query", "key", "value")))
    if scale is None:
        scale = 1 / math.sqrt(b.shape(q)[-1])
    scores = product(b, times(b, q, float(scale)), transposed(b, k))
    shape = b.shape(scores)
    if causal:
        allowed = torch.ones(shape[-2:], dtype=torch.bool).tril()
        mask = _filled(torch.zeros(shape[-2:]).masked_fill(~allowed, -torch.inf))
    elif mask is not None and mask.example.dtype == torch.bool:
        if not mask.example.any(-1).all():
            return None  # a row that sees nothing
        seen = mask.read
        mask = Constant(_bias(mask.example), lambda: _bias(seen()), mask.live)
    if mask is not None:
        scores = added(b, scores, mask, shape)
    weights = b.add(Softmax(len(shape), False), [scores])
    return product(b, weights, v)


def _bias(allowed: Tensor) -> Tensor:
    """What is added to scores: 0 where a place is seen, -inf where not."""
    bias = torch.zeros(allowed.shape, device=allowed.device, dtype=torch.get_default_dtype())
    return bias.masked_fill(~allowed, -torch.inf)


def _embedding(b: Builder, call: Call) -> Made:
    if not isinstance(call.function, types.FunctionType):
        return None
    where, table = call.get(0, "input"), call.get(1, "weight")
    padding = call.get(2, "padding_idx")
    if call.get(3, "max_norm") is not None or call.get(5, "scale_grad_by_freq", False):
        return None
    if call.get(6, "sparse", False) or (padding is not None and padding < 0):
        return None
    return b.add(Gather(padding), [b.value(where), b.torch(table)], call.results[0].shape)


MAKERS: dict[str, Maker] = {
    "softmax": _softmax(log=False),
    "log_softmax": _softmax(log=True),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "max_pool1d": _max_pool(1),
    "max_pool2d": _max_pool(2),
    "avg_pool1d": _avg_pool(1),
    "avg_pool2d": _avg_pool(2),
    "adaptive_avg_pool1d": _adaptive(1),
    "adaptive_avg_pool2d": _adaptive(2),
    "scaled_dot_product_attention": _attention,
    "embedding": _embedding,
}
