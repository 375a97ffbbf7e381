"""Parts of a copied module that torch computes in a form with no second derivative, or a wrong one.

- weight norm: the second derivative of torch's fused kernel is wrong for v; v g / |v| is right.
- RNN, GRU, LSTM: one fused operation, which neither vmap nor double backward knows; unrolled.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor, nn

from binomctl.curvature.recurrent import unrolled


def adjust(module: nn.Module) -> None:
    """Replace such parts of a copy, in place; parameters and their names stay."""
    for part in module.modules():
        if type(part) in (nn.RNN, nn.GRU, nn.LSTM):
            part.forward = types.MethodType(unrolled, part)
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


def _parametrized(self: Any, weight_g: Tensor, weight_v: Tensor) -> Tensor:
    return weight_norm(weight_v, weight_g, self.dim)


def _hooked(self: Any, module: nn.Module) -> Tensor:
    g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
    return weight_norm(v, g, self.dim)
