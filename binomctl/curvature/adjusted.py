"""Parts of a copied module that torch computes in a form with no second derivative, or a wrong one.

- weight norm: the second derivative of torch's fused kernel is wrong for v; v g / |v| is right.
- Hardsigmoid: its backward has no derivative; relu6(x + 3) / 6 is the same function.
- EmbeddingBag: its backward has none either; a sum, mean or maximum of embeddings is the same.
- RNN, GRU, LSTM: one fused operation, which neither vmap nor double backward knows; unrolled.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.curvature.recurrent import unrolled
from binomctl.errors import ConfigError


def adjust(module: nn.Module) -> None:
    """Replace such parts of a copy, in place; parameters and their names stay."""
    for part in module.modules():
        if type(part) in (nn.RNN, nn.GRU, nn.LSTM):
            part.forward = types.MethodType(unrolled, part)
        for kind, forward in ((nn.Hardsigmoid, _hardsigmoid), (nn.EmbeddingBag, _bag)):
            if type(part) is kind:
                part.forward = types.MethodType(forward, part)  # type: ignore[method-assign]
        if type(part).__name__ == "_WeightNorm" and hasattr(part, "dim"):
            part.forward = types.MethodType(_parametrized, part)
        for hook in part._forward_pre_hooks.values():
            if type(hook).__name__ == "WeightNorm" and hasattr(hook, "compute_weight"):
                hook.compute_weight = types.MethodType(_hooked, hook)


def weight_norm(v: Tensor, g: Tensor, dim: int | None) -> Tensor:
    """v g / |v|, the norm over all dimensions but `dim` (over all for None or -1)."""
    axes = [a for a in range(v.dim()) if dim is None or dim == -1 or a != dim % v.dim()]
    norm = v.square().sum(axes, keepdim=True).sqrt() if axes else v.abs()
    return v * (g / norm)


def _hardsigmoid(self: Any, input: Tensor) -> Tensor:
    return F.relu6(input + 3) / 6


def _bag(
    self: Any, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Any = None
) -> Tensor:
    if input.dim() == 1:
        raise ConfigError(
            "EmbeddingBag of one row of indices with offsets cannot be adapted",
            "Give every bag as a row of a matrix, padded with padding_idx.",
        )
    seen = F.embedding(input, self.weight)
    if self.padding_idx is None:
        kept = torch.ones_like(input, dtype=torch.bool).unsqueeze(-1)
    else:
        kept = (input != self.padding_idx).unsqueeze(-1)
    if self.mode == "max":
        most = seen.masked_fill(~kept, -torch.inf).amax(1)
        return most.masked_fill(~kept.any(1), 0.0)  # of a bag without rows, as torch has it
    if per_sample_weights is not None:
        seen = seen * per_sample_weights.unsqueeze(-1)
    total = (seen * kept).sum(1)
    return total / kept.sum(1).clamp_min(1) if self.mode == "mean" else total


def _parametrized(self: Any, weight_g: Tensor, weight_v: Tensor) -> Tensor:
    return weight_norm(weight_v, weight_g, self.dim)


def _hooked(self: Any, module: nn.Module) -> Tensor:
    g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
    return weight_norm(v, g, self.dim)
