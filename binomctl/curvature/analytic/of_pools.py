"""Calls of pools as nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.calls import Call
from binomctl.curvature.analytic.layers import GLOBAL_AVERAGE, LinearMap, MaxPool
from binomctl.curvature.analytic.norm_block import Pool
from binomctl.curvature.analytic.of_shapes import reshaped


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


MAKERS: dict[str, Maker] = {
    "max_pool1d": _max_pool(1),
    "max_pool2d": _max_pool(2),
    "avg_pool1d": _avg_pool(1),
    "avg_pool2d": _avg_pool(2),
    "adaptive_avg_pool1d": _adaptive(1),
    "adaptive_avg_pool2d": _adaptive(2),
}
