"""Everything about a module and the process that a call must leave as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedTensorMixin


def anatomy(model: nn.Module) -> list[tuple[str, Any]]:
    """(path, object) of whatever hangs on a module, in order; tensors with copies of their bits."""
    found: list[tuple[str, Any]] = []
    seen: set[int] = set()

    def visit(path: str, value: Any) -> None:
        found.append((path, value))
        if id(value) in seen or isinstance(
            value, int | float | str | UninitializedTensorMixin | None
        ):
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.append((path + ".bits", value.detach().clone()))
            for name in ("requires_grad", "grad", "_backward_hooks", "is_leaf"):
                if name != "grad" or value.is_leaf:
                    found.append((f"{path}.{name}", getattr(value, name)))
        elif isinstance(value, torch.jit.ScriptModule):
            for name, tensor in value.named_parameters():
                found.append((f"{path}.{name}.bits", tensor.detach().clone()))
        elif isinstance(value, nn.Module):
            found.append((path + ".class", type(value)))
            found.append((path + ".class.forward", type(value).__dict__.get("forward")))
            for name, part in value.__dict__.items():
                visit(f"{path}.{name}", part)
        elif isinstance(value, dict):
            for key, part in value.items():
                visit(f"{path}[{key!r}]", part)
        elif isinstance(value, list | tuple):
            for i, part in enumerate(value):
                visit(f"{path}[{i}]", part)

    visit(type(model).__name__, model)
    return found


def process() -> list[tuple[str, Any]]:
    return [
        ("threads", torch.get_num_threads()),
        ("grad mode", torch.is_grad_enabled()),
        ("default type", torch.get_default_dtype()),
        ("torch's generator.bits", torch.get_rng_state()),
        ("Python's generator", random.getstate()),
        ("attention", (torch.backends.cuda.flash_sdp_enabled(),
                       torch.backends.cuda.math_sdp_enabled(),
                       torch.backends.cuda.mem_efficient_sdp_enabled(),
                       torch.backends.mha.get_fastpath_enabled())),
        ("deterministic", torch.are_deterministic_algorithms_enabled()),
        ("attention's function", F.scaled_dot_product_attention),
        ("forwards", [c.forward for c in (nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention)]),
        ("apply", torch.autograd.Function.apply),
    ]  # fmt: skip


def differences(before: list[tuple[str, Any]], after: list[tuple[str, Any]]) -> list[str]:
    """Paths at which the two differ: other objects, other bits, other order."""
    gone = [path for path, _ in before if path not in dict(after)]
    new = [path for path, _ in after if path not in dict(before)]
    if gone or new:
        return [f"gone: {p}" for p in gone] + [f"new: {p}" for p in new]
    changed = []
    for (path, old), (other, now) in zip(before, after, strict=True):
        same = now is old
        if path == other and path.endswith(".bits"):
            same = old.dtype == now.dtype and old.shape == now.shape
            same = same and old.numpy().tobytes() == now.numpy().tobytes()
        if path != other or not same:
            changed.append(path)
    return changed


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Fails where the block changes the module or the process, also when the block raises."""
    before, around = anatomy(model), process()
    try:
        yield
    finally:
        assert differences(before, anatomy(model)) == []
        now = process()
        changed = [
            name
            for (name, a), (_, b) in zip(around, now, strict=True)
            if not (torch.equal(a, b) if isinstance(a, Tensor) else a == b)
        ]
        assert changed == []
