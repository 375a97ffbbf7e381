"""Convolutions with a weight per task: one dense convolution each, grouped, or as matrix products.

A batched weight as a grouped convolution is 2 to 8 times slower on a CPU than one dense convolution
per task; on a GPU one call for all tasks wins. Images are [T, N, H, W, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.curvature.analytic.layers import Cache, Parameters, add

Method = Literal["per-task", "grouped", "im2col"]


@dataclass(frozen=True)
class Conv:
    """z = x * w + b, zero padding; strides, padding and dilation by height and width.

    `bias` False leaves the bias out: batch norm with the statistics of the batch behind it takes
    any constant away, so that neither the output nor any other gradient depends on it.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    bias: bool = True
    method: Method = "per-task"

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        (x,) = xs
        cache.primal = x
        return self._apply(x, p["weight"], p.get("bias") if self.bias else None)

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        gx = self._to_input(gy, p["weight"], cache.primal) if wanted[0] else None
        return [gx], self._gradients(p, gy, self._to_weight(gy, cache.primal, p["weight"]))

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        (tx,) = txs
        cache.tangent = tx
        ty = None
        if "weight" in tp:
            ty = self._apply(cache.primal, tp["weight"], tp.get("bias") if self.bias else None)
        return ty if tx is None else add(ty, self._apply(tx, p["weight"], None))

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        weight = self._to_weight(tgy, cache.primal, p["weight"])
        if cache.tangent is not None:
            weight = weight + self._to_weight(gy, cache.tangent, p["weight"])
        gradients = self._gradients(p, tgy, weight)
        if not wanted[0]:
            return [None], gradients
        tgx: Tensor | None = self._to_input(tgy, p["weight"], cache.primal)
        if "weight" in tp:
            tgx = add(tgx, self._to_input(gy, tp["weight"], cache.primal))
        return [tgx], gradients

    def _gradients(self, p: Parameters, gy: Tensor, weight: Tensor) -> Parameters:
        if "bias" not in p:
            return {"weight": weight}
        bias = gy.sum((1, 2, 3)) if self.bias else torch.zeros_like(p["bias"])
        return {"weight": weight, "bias": bias}

    # The bilinear map and its two transposes -----------------------------------------------------

    def _apply(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        if self.method == "im2col":
            out = self._columns(x, w).mT @ w.flatten(2).mT.unsqueeze(1)  # [T, N, places, O]
            out = out.view(*x.shape[:2], *self._out_size(x, w), w.shape[1])
            return out if b is None else out + b[:, None, None, None]
        if self.method == "grouped":
            out = F.conv2d(
                _channels(x), w.flatten(0, 1), None if b is None else b.flatten(), self.stride,
                self.padding, self.dilation, len(w),
            )  # fmt: skip
            return _images(out, len(w))
        outs = [
            F.conv2d(_nchw(x[t]), _like(x, w[t]), None if b is None else b[t], self.stride,
                     self.padding, self.dilation)
            for t in range(len(w))
        ]  # fmt: skip
        return _stack([o.permute(0, 2, 3, 1).contiguous() for o in outs])

    def _to_input(self, g: Tensor, w: Tensor, x: Tensor) -> Tensor:
        if self.method == "im2col":
            columns = (g.flatten(2, 3) @ w.flatten(2).unsqueeze(1)).flatten(0, 1).mT
            back = F.fold(
                columns, x.shape[2:4], w.shape[3:], self.dilation, self.padding, self.stride
            )
            return back.view(*x.shape[:2], x.shape[4], *x.shape[2:4]).permute(0, 1, 3, 4, 2)
        return self._transposed(g, w, x, (True, False, False))

    def _to_weight(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        if self.method == "im2col":
            columns = self._columns(x, w)  # [T, N, C * kh * kw, places]
            return (columns @ g.flatten(2, 3)).sum(1).mT.reshape(w.shape)
        return self._transposed(g, w, x, (False, True, False))

    def _transposed(
        self, g: Tensor, w: Tensor, x: Tensor, which: tuple[bool, bool, bool]
    ) -> Tensor:
        """The gradient of the input (which[0]) or of the weight."""
        fixed = (None, self.stride, self.padding, self.dilation, False, [0, 0])
        back = torch.ops.aten.convolution_backward
        if self.method == "grouped":
            gx, gw, _ = back(_channels(g), _channels(x), w.flatten(0, 1), *fixed, len(w), which)
            return _images(gx, len(w)) if which[0] else gw.view(w.shape)
        out = []
        for t in range(len(w)):
            gx, gw, _ = back(_nchw(g[t]), _nchw(x[t]), _like(x, w[t]), *fixed, 1, which)
            out.append(gx.permute(0, 2, 3, 1) if which[0] else gw)
        return _stack(out)

    def _columns(self, x: Tensor, w: Tensor) -> Tensor:
        """[T, N, C * kh * kw, places]."""
        flat = x.flatten(0, 1).permute(0, 3, 1, 2)
        columns = F.unfold(flat, w.shape[3:], self.dilation, self.padding, self.stride)
        return columns.view(*x.shape[:2], *columns.shape[1:])

    def _out_size(self, x: Tensor, w: Tensor) -> tuple[int, int]:
        sizes = zip(
            x.shape[2:4], w.shape[3:], self.stride, self.padding, self.dilation, strict=True
        )
        h, w_ = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
        return h, w_


def _nchw(x: Tensor) -> Tensor:
    """[N, H, W, C] as torch's [N, C, H, W], channels last."""
    return x.permute(0, 3, 1, 2)


def _like(x: Tensor, w: Tensor) -> Tensor:
    """A weight in the memory format of images with more than one channel."""
    return w.contiguous(memory_format=torch.channels_last) if x.shape[-1] > 1 else w


def _channels(x: Tensor) -> Tensor:
    """[T, N, H, W, C] -> [N, T * C, H, W], for a grouped convolution."""
    T, N, H, W, C = x.shape
    return x.permute(1, 0, 4, 2, 3).reshape(N, T * C, H, W)


def _images(x: Tensor, T: int) -> Tensor:
    """[N, T * C, H, W] -> [T, N, H, W, C]."""
    N, TC, H, W = x.shape
    return x.view(N, T, TC // T, H, W).permute(1, 0, 3, 4, 2).contiguous()


def _stack(parts: list[Tensor]) -> Tensor:
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)
