"""What an inner loop can differentiate, and what it refuses by name rather than get wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from binomctl.curvature.criterion import Criterion
from binomctl.errors import BinomctlError, ConfigError

LABELS = "Labels are whole numbers from 0 to the number of outputs - 1."

StepBuffers = Callable[[int | None], dict[str, Tensor]]
"""Inner step k -> buffers by name; None is the end of the inner loop."""


def check_model(model: nn.Module) -> None:
    """Refuse modules whose forward pass has state or randomness.

    Raises:
        ConfigError: naming the module's path, the reason and the remedy.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ConfigError(
            f"{type(model).__name__} is a TorchScript module: it takes no parameters from outside",
            "Hand over the module that it was made of.",
        )
    parameters = list(model.parameters())
    if any(isinstance(p, UninitializedParameter) for p in parameters):
        raise ConfigError(
            f"{type(model).__name__} has lazy modules whose parameters have no shape yet",
            "Call it once on an example first.",
        )
    if not any(p.requires_grad for p in parameters):
        frozen = ": all are frozen (requires_grad = False)" if parameters else ""
        raise ConfigError(f"{type(model).__name__} has no parameters to adapt{frozen}")
    for path, module in model.named_modules():
        name = f"{type(module).__name__} at '{path or type(model).__name__}'"
        if getattr(module, "track_running_stats", False) and module.training:
            raise ConfigError(
                f"{name} updates running statistics, which the inner loop cannot differentiate",
                "Construct it with track_running_stats=False (statistics of the batch at hand), or"
                " put the module into eval mode (its running statistics as constants).",
            )
        if getattr(module, "max_norm", None) is not None and hasattr(module, "padding_idx"):
            raise ConfigError(
                f"{name} (max_norm = {module.max_norm}) renormalises its weights in place at every"
                " call, which changes phi outside the inner step",
                "Construct it without max_norm, and normalise what it returns.",
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ConfigError(f"{name} is a TorchScript module", "Use the one it was made of.")
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 and module.training:
            raise ConfigError(
                f"{name} (p = {module.p}) draws a new mask at every call, so H_k would belong to"
                " another loss than the step it corrects",
                "Set p = 0, or put the module into eval mode.",
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
            "Freeze them (requires_grad_(False)), or ask for zeros with allow_unused=True.",
        )


@contextmanager
def in_words(model: nn.Module) -> Iterator[None]:
    """What goes wrong inside a user's module or loss, in a sentence that says where.

    Raises:
        ConfigError: for any error but those of ours, a lack of memory and an interrupt.
    """
    try:
        yield
    except (BinomctlError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        place, remedy = _place(model, error)
        raise ConfigError(
            f"{place} fails: {in_short(error)}", advice(str(error)) or remedy
        ) from error


def in_short(error: Exception) -> str:
    """The type and first sentences of an error."""
    message = " ".join(str(error).split()) or "no reason given"
    whole, dot, _ = message[:300].rpartition(". ")
    shown = message if len(message) <= 300 else whole + dot.strip() or message[:300]
    return f"{type(error).__name__}: {shown}"


def _place(model: nn.Module, error: Exception) -> tuple[str, str]:
    """The innermost of the model's modules, or the loss, whose code an error passed through, and
    what to try."""
    paths = {id(module): path for path, module in model.named_modules()}
    place = type(model).__name__
    remedy = "Call the model and the loss on one task's tensors to see it by itself."
    trace = error.__traceback__
    while trace is not None:
        seen = trace.tb_frame.f_locals
        owner = seen.get("self")
        if isinstance(owner, Criterion):
            place = f"the loss {owner.name}"
            given = [f"{list(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
                     for v in (seen["output"], seen["y"])]  # fmt: skip
            remedy = f"It is called with one task's outputs, {given[0]}, and targets, {given[1]}."
        if id(owner) in paths and paths[id(owner)]:
            place = f"{type(owner).__name__} at '{paths[id(owner)]}'"
            rows = getattr(owner, "num_embeddings", None)
            if isinstance(error, IndexError) and isinstance(rows, int):
                place += f" (rows 0 to {rows - 1})"
        trace = trace.tb_next
    return place, remedy


def advice(message: str) -> str:
    """What to do about an error of torch; "" where nothing is known."""
    if "does not have a deterministic implementation" in message:
        return "Set engine.deterministic=false, or use another operation."
    if "same dtype" in message or "expected scalar type" in message or "found dtype" in message:
        return "Convert the inputs to the parameters' type, x.float() or x.double() say."
    if "not implemented" in message and "derivative" in message:
        return "Use a first-order estimator, or an operation that torch derives twice."
    if "out of bounds" in message and "arget" in message:
        return LABELS
    return ""
