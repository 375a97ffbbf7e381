"""A GPU that is not there: torch's fake CUDA tensors, and a network's meta-gradient on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from binomctl.adapt import adapt_and_validate, estimate
from binomctl.contracts import Adaptation
from binomctl.episodes import EpisodeBatch
from binomctl.models import build_model
from binomctl.settings import registry

B, N, K = 2, 5, 3
aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default,
         aten.is_nonzero.default, aten.masked_select.default}  # fmt: skip
MODELS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "mlp": ({}, (1,)),
    "conv4": ({"filters": 16}, (1, 28, 28)),
    "resnet12": ({"filters": (16, 24, 32, 40)}, (3, 32, 32)),
}


# What torch.use_deterministic_algorithms refuses on a CUDA device, by its documentation.
UNORDERED = (
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "_ctc_loss_backward",
    "adaptive_max_pool2d_backward", "avg_pool3d_backward", "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward", "grid_sampler_2d_backward", "histc", "max_unpool2d",
    "max_unpool3d", "nll_loss2d_forward", "put", "put_", "reflection_pad1d_backward",
    "reflection_pad2d_backward", "reflection_pad3d_backward", "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward", "upsample_linear1d_backward", "upsample_trilinear3d_backward",
)  # fmt: skip


class Ordered(TorchDispatchMode):
    """Raises where an operation of a deterministic run has no such algorithm on CUDA."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in UNORDERED or func is aten.median.dim:
            raise AssertionError(f"{func} adds up in any order")
        return func(*args, **(kwargs or {}))


class NoReads(TorchDispatchMode):
    """Raises where the host reads a value, or fetches a tensor from the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in READS:
            raise AssertionError(f"{func} reads a value back")
        out = func(*args, **kwargs)
        before = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if any(t.device.type == "cuda" for t in before):
            for t in tree_leaves(out):
                assert not isinstance(t, Tensor) or t.device.type == "cuda", (
                    f"{func} leaves the GPU"
                )
        return out


def on_fake_gpu(model: nn.Module) -> nn.Module:
    """The module's parameters and buffers anew, on the fake device."""
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(p.shape, device="cuda", dtype=p.dtype)))
        for name, b in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty(b.shape, device="cuda", dtype=b.dtype))
    return model


def made(kind: str) -> nn.Module:
    options, shape = MODELS[kind]
    return build_model(kind, options, shape, 1 if kind == "mlp" else 5, 0)


def batch_of(kind: str, device: str) -> EpisodeBatch:
    shape = MODELS[kind][1]
    x = torch.randn(B, N, *shape, device=device)
    if kind == "mlp":
        y = torch.randn(B, N, 1, device=device)
    else:
        y = torch.arange(5, device=device).expand(B, -1)
    return EpisodeBatch(x, y, x.clone(), y.clone())


def meta_gradient(
    engine: Any,
    model: nn.Module,
    name: str,
    options: dict[str, Any],
    batch: EpisodeBatch,
    device: str,
    theta: Tensor | None = None,
) -> Tensor:
    """Every task's estimate [B, d] at theta, or at the model's parameters."""
    estimator = registry.create("estimator", name, options)
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, 0.01, rule, torch.empty(0, device=device), engine.layout)
    if theta is None:
        theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    adapted, _, _ = adapt_and_validate(engine, theta, batch, how, estimator.steps(K))
    return estimate(estimator, adapted).theta
