"""Convolutions with a weight per task: one dense convolution each, grouped, or as matrix products.

A batched weight as a grouped convolution is 2 to 8 times slower on a CPU than one dense convolution
per task; small images are faster as matrix products of all tasks at once, on a GPU one call for all
tasks wins. Images are [T, N, H, W, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.curvature.analytic.layer import Cache, Parameters

Method = Literal["per-task", "grouped", "products"]


@dataclass(frozen=True)
class Conv:
    """z = x * w + b, zero padding; strides, padding and dilation by height and width.

    `bias` False leaves the bias out: batch norm with the statistics of the batch behind it takes
    any constant away, so that neither the output nor any other gradient depends on it.
    `wide`: the weight has more numbers than the images, so that it is never copied, into another
    memory format or beside its tangent.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    bias: bool = True
    method: Method = "per-task"
    wide: bool = False

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
        bias = tp.get("bias") if self.bias else None
        if "weight" not in tp:  # frozen, unlike the bias maybe
            if tx is None and bias is None:
                return None
            return self._apply(
                torch.zeros_like(cache.primal) if tx is None else tx, p["weight"], bias
            )
        if tx is None:
            return self._apply(cache.primal, tp["weight"], bias)
        if self.wide:
            return self._apply(tx, p["weight"], None) + self._apply(
                cache.primal, tp["weight"], bias
            )
        # tx * w + x * tw as one convolution of twice the channels: half the calls, no sum after.
        both = torch.cat([tx, cache.primal], -1)
        return self._apply(both, torch.cat([p["weight"], tp["weight"]], 2), bias)

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        x, tx, w = cache.primal, cache.tangent, p["weight"]
        if tx is None:
            weight = self._to_weight(tgy, x, w)
        else:  # the sum over images of both products as one, over twice the images
            weight = self._to_weight(torch.cat([tgy, gy], 1), torch.cat([x, tx], 1), w)
        gradients = self._gradients(p, tgy, weight)
        if not wanted[0]:
            return [None], gradients
        if "weight" not in tp:
            return [self._to_input(tgy, w, x)], gradients
        if self.wide:
            return [self._to_input(tgy, w, x) + self._to_input(gy, tp["weight"], x)], gradients
        both = torch.cat([tgy, gy], -1)
        return [self._to_input(both, torch.cat([w, tp["weight"]], 1), x)], gradients

    def _gradients(self, p: Parameters, gy: Tensor, weight: Tensor) -> Parameters:
        if "bias" not in p:
            return {"weight": weight}
        bias = gy.sum((1, 2, 3)) if self.bias else torch.zeros_like(p["bias"])
        return {"weight": weight, "bias": bias}

    # The bilinear map and its two transposes -----------------------------------------------------

    def _apply(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        if self.method == "products":
            columns = self._columns(x, w)
            out = columns.flatten(1, 3) @ _as_matrix(w)
            if b is not None:
                out += b.unsqueeze(1)
            return out.view(*columns.shape[:4], w.shape[1])
        if self.method == "grouped":
            out = F.conv2d(
                _channels(x), w.flatten(0, 1), None if b is None else b.flatten(), self.stride,
                self.padding, self.dilation, len(w),
            )  # fmt: skip
            return _images(out, len(w))
        outs = [
            F.conv2d(self._nchw(x[t]), self._weight(w[t]), None if b is None else b[t], self.stride,
                     self.padding, self.dilation)
            for t in range(len(w))
        ]  # fmt: skip
        images = [o.permute(0, 2, 3, 1) for o in outs]
        return _stack(images if self.wide else [i.contiguous() for i in images])

    def _to_input(self, g: Tensor, w: Tensor, x: Tensor) -> Tensor:
        if self.method != "products":
            return self._transposed(g, w, x, (True, False, False))
        if self.stride == (1, 1):
            # The gradient is a convolution of g with the kernel turned around.
            reach = [d * (k - 1) - p for d, k, p in
                     zip(self.dilation, w.shape[3:], self.padding, strict=True)]  # fmt: skip
            if min(reach) >= 0:
                turned = Conv((1, 1), (reach[0], reach[1]), self.dilation, False, "products")
                return turned._apply(g, w.flip(3, 4).transpose(1, 2), None)
        parts = self._transposed_by_task(g, w, x, (True, False, False))
        return _stack(parts)

    def _to_weight(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        if self.method == "products":
            out = self._columns(x, w).flatten(1, 3).mT @ g.flatten(1, 3)  # [T, kh * kw * C, O]
            T, O, C, kh, kw = w.shape
            return out.view(T, kh, kw, C, O).permute(0, 4, 3, 1, 2)
        return self._transposed(g, w, x, (False, True, False))

    def _transposed(
        self, g: Tensor, w: Tensor, x: Tensor, which: tuple[bool, bool, bool]
    ) -> Tensor:
        """The gradient of the input (which[0]) or of the weight."""
        if self.method != "grouped":
            return _stack(self._transposed_by_task(g, w, x, which))
        gx, gw, _ = _backward(
            _channels(g), _channels(x), w.flatten(0, 1), None, self.stride, self.padding,
            self.dilation, False, [0, 0], len(w), which,
        )  # fmt: skip
        return _images(gx, len(w)) if which[0] else gw.view(w.shape)

    def _transposed_by_task(
        self, g: Tensor, w: Tensor, x: Tensor, which: tuple[bool, bool, bool]
    ) -> list[Tensor]:
        out = []
        for t in range(len(w)):
            gx, gw, _ = _backward(
                self._nchw(g[t]), self._nchw(x[t]), self._weight(w[t]), None, self.stride,
                self.padding, self.dilation, False, [0, 0], 1, which,
            )  # fmt: skip
            out.append(gx.permute(0, 2, 3, 1) if which[0] else gw)
        return out

    def _nchw(self, x: Tensor) -> Tensor:
        """[N, H, W, C] as torch's [N, C, H, W]: channels last, or where the weight is wide not."""
        return x.permute(0, 3, 1, 2).contiguous() if self.wide else x.permute(0, 3, 1, 2)

    def _weight(self, w: Tensor) -> Tensor:
        """In the images' memory format; with one channel torch would take it for the other."""
        return w if self.wide else w.contiguous(memory_format=torch.channels_last)

    def _columns(self, x: Tensor, w: Tensor) -> Tensor:
        """What every output sees: [T, N, h, w, kh * kw * C]; channels last makes rows of kw * C
        numbers that lie together."""
        (ph, pw), (sh, sw), (dh, dw) = self.padding, self.stride, self.dilation
        kh, kw = w.shape[3:]
        if ph or pw:
            x = F.pad(x, (0, 0, pw, pw, ph, ph))
        T, N, H, W, C = x.shape
        x = x.contiguous()
        h, w_ = (H - dh * (kh - 1) - 1) // sh + 1, (W - dw * (kw - 1) - 1) // sw + 1
        t, n, row, column, _ = x.stride()
        seen = x.as_strided(
            (T, N, h, w_, kh, kw, C), (t, n, sh * row, sw * column, dh * row, dw * column, 1)
        )
        return seen.reshape(T, N, h, w_, kh * kw * C)


_backward = torch.ops.aten.convolution_backward


def _as_matrix(w: Tensor) -> Tensor:
    """[T, O, C, kh, kw] -> [T, kh * kw * C, O]."""
    return w.permute(0, 3, 4, 2, 1).flatten(1, 3)


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
