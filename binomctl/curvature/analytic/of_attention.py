"""Calls of attention and embeddings as nodes."""

from __future__ import annotations

import math
import types

import torch
from torch import Tensor

from binomctl.curvature.analytic.builder import Builder, Made, Maker
from binomctl.curvature.analytic.calls import Call, Constant, constant
from binomctl.curvature.analytic.normalise import Softmax
from binomctl.curvature.analytic.of_products import product, transposed
from binomctl.curvature.analytic.of_sums import added, times
from binomctl.curvature.analytic.shapes import Gather


def _attention(b: Builder, call: Call) -> Made:
    names = (("attn_mask", None), ("dropout_p", 0.0), ("is_causal", False), ("scale", None),
             ("enable_gqa", False))  # fmt: skip
    mask, dropout, causal, scale, gqa = (call.get(i, n, d) for i, (n, d) in enumerate(names, 3))
    learned = mask is not None and not isinstance(mask, Constant)
    if dropout or gqa or (learned and not mask.example.is_floating_point()):
        return None
    q, k, v = (b.torch(call.get(i, n)) for i, n in enumerate(("query", "key", "value")))
    if scale is None:
        scale = 1 / math.sqrt(b.shape(q)[-1])
    scores = product(b, times(b, q, float(scale)), transposed(b, k))
    shape = b.shape(scores)
    if causal:
        allowed = torch.ones(shape[-2:], dtype=torch.bool).tril()
        mask = constant(torch.zeros(shape[-2:]).masked_fill(~allowed, -torch.inf))
    elif isinstance(mask, Constant) and mask.example.dtype == torch.bool:
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
    "scaled_dot_product_attention": _attention,
    "embedding": _embedding,
}
