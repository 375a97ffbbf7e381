"""What a recording of a forward pass would lose, and is therefore refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from binomctl.errors import ConfigError


class Unsupported(ConfigError):
    """A layer the algebra does not know, by its path."""


REFUSED = frozenset({
    "data", "grad", "requires_grad_", "register_hook", "register_post_accumulate_grad_hook",
    "retain_grad", "backward", "detach_", "set_", "resize_", "resize_as_", "as_subclass",
    "_make_subclass", "numpy", "__array__", "tolist", "item", "__setitem__", "share_memory_",
    "storage", "untyped_storage", "to_sparse",
    "data =", "grad =", "requires_grad =",
    # as many numbers as the values say, another number for every task:
    "masked_select", "nonzero", "argwhere", "unique", "unique_consecutive", "bincount",
})  # fmt: skip
"""Functions on values that vary which no recording can replace."""

_HOOKS = (
    ("_forward_hooks", "a forward hook"),
    ("_forward_pre_hooks", "a forward pre-hook (weight or spectral norm have one)"),
    ("_backward_hooks", "a backward hook"),
    ("_backward_pre_hooks", "a backward pre-hook"),
)


def check_modules(model: nn.Module) -> None:
    """Refuse hooks, parametrizations, and random layers.

    Raises:
        Unsupported: with the module's path and the reason.
    """
    if nn.modules.module._has_any_global_hook():  # type: ignore[no-untyped-call]
        raise Unsupported("hooks for all modules are registered")
    for path, module in model.named_modules():
        what = f"{type(module).__name__} at '{path or type(model).__name__}'"
        for attribute, hook in _HOOKS:
            if getattr(module, attribute, None):
                raise Unsupported(f"{what} has {hook}")
        if is_parametrized(module):
            raise Unsupported(f"{what} has parametrizations")
        dropout = isinstance(module, nn.modules.dropout._DropoutNd)
        if dropout and module.p > 0 and module.training:
            raise Unsupported(f"{what} draws at random")
    for name, p in model.named_parameters():
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
            raise Unsupported(f"the parameter '{name}' has a hook")


@dataclass(frozen=True)
class Snapshot:
    """The state of all modules: what their attributes, and lists and dicts in them, hold."""

    held: list[tuple[str, Any, Any]]

    def restore(self) -> list[str]:
        """Put back what was changed; names of it."""
        changed = []
        for name, container, before in self.held:
            now = _copy(container)
            if _differs(now, before):
                changed.append(_first_difference(name, now, before))
                container.clear()
                container.extend(before) if isinstance(container, list) else container.update(
                    before
                )
        return changed


def snapshot(model: nn.Module) -> Snapshot:
    """The present state of a module and all inside it."""
    held: list[tuple[str, Any, Any]] = []
    for path, module in model.named_modules():
        held.append((path, module.__dict__, _copy(module.__dict__)))
        for key, value in module.__dict__.items():
            if isinstance(value, list | dict | set):
                held.append((f"{path}.{key}".lstrip("."), value, _copy(value)))
    return Snapshot(held)


def _copy(container: Any) -> Any:
    return type(container)(container) if type(container) in (list, dict, set) else container.copy()


def _differs(now: Any, before: Any) -> bool:
    if isinstance(now, dict):
        return list(now) != list(before) or any(now[k] is not before[k] for k in now)
    if isinstance(now, list):
        return len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True))
    return bool(now != before)


def _first_difference(name: str, now: Any, before: Any) -> str:
    if isinstance(now, dict):
        keys = [k for k in {**before, **now} if now.get(k, torch) is not before.get(k, torch)]
        return f"'{name}.{keys[0]}'".replace("'.", "'") if keys else f"'{name}'"
    return f"'{name}'"
