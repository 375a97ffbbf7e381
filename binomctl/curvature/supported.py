"""What an inner loop can differentiate, and what it refuses by name rather than get wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from binomctl.errors import ConfigError


def check_model(model: nn.Module) -> None:
    """Refuse modules whose forward pass has state or randomness.

    Raises:
        ConfigError: naming the module's path, the reason and the remedy.
    """
    if next(model.parameters(), None) is None:
        raise ConfigError(f"{type(model).__name__} has no parameters to adapt")
    for path, module in model.named_modules():
        name = f"{type(module).__name__} at '{path or type(model).__name__}'"
        if getattr(module, "track_running_stats", False) and module.training:
            raise ConfigError(
                f"{name} updates running statistics, which the inner loop cannot differentiate",
                "Construct it with track_running_stats=False (statistics of the batch at hand), or"
                " put the module into eval mode (its running statistics as constants).",
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 and module.training:
            raise ConfigError(
                f"{name} (p = {module.p}) draws a new mask at every call, so H_k would belong to"
                " another loss than the step it corrects",
                "Set p = 0, or put the module into eval mode.",
            )


def check_inputs(model: nn.Module, **inputs: Tensor) -> None:
    """Refuse integer inputs to a model that embeds none: a gradient step would need floats."""
    embeds = any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in model.modules())
    for name, x in inputs.items():
        if not x.is_floating_point() and not x.is_complex() and not embeds:
            raise ConfigError(
                f"{name} has dtype {str(x.dtype).removeprefix('torch.')}, and"
                f" {type(model).__name__} embeds no integers",
                f"Convert it, {name}.float() say; pixels are usually divided by 255.",
            )


def check_repeats(model: nn.Module, x: Tensor) -> None:
    """Refuse a model that draws at random: H_k would belong to another loss than its step.

    Catches what `check_model` cannot see by type: functional dropout, dropout inside attention.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        one, two = model(x), model(x)
    if not torch.allclose(one, two, equal_nan=True):
        raise ConfigError(
            f"{type(model).__name__} gives two answers for one input: it draws at random (dropout,"
            " say), so H_k would belong to another loss than the step it corrects",
            "Put the model into eval mode, or set its dropout to 0.",
        )


def check_loss(loss: Tensor) -> None:
    """Refuse a loss that is not one number per task."""
    if not isinstance(loss, Tensor):
        raise ConfigError(
            f"the loss of a task is no tensor but {type(loss).__name__}",
            "Compute it from the model's outputs, with torch.",
        )
    if loss.dim() != 0:
        raise ConfigError(
            f"the loss of a task has shape {list(loss.shape)}, expected a scalar",
            "Reduce it, with .mean() or reduction='mean'.",
        )


def check_depends(loss: Tensor) -> None:
    """Refuse losses [B] that are constant in the parameters."""
    if not loss.requires_grad:
        raise ConfigError(
            "the loss of a task is constant in the parameters",
            "Compute it from the model's outputs.",
        )


def check_reached(names: Sequence[str], gradients: Sequence[Tensor | None]) -> None:
    """Refuse parameters that the loss does not depend on."""
    missed = [name for name, g in zip(names, gradients, strict=True) if g is None]
    if missed:
        raise ConfigError(
            f"the loss does not depend on {len(missed)} parameter(s): {', '.join(missed[:5])}",
            "Remove them from the model, or freeze them as buffers.",
        )
