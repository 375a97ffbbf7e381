"""Torch functions as a recording sees them: one name each, what they are made of, which to skip."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from torch.nn import functional as F

_NAMES = {
    F.max_pool1d: "max_pool1d",
    F.max_pool2d: "max_pool2d",
    F.max_pool3d: "max_pool3d",
}


def name_of(func: Callable[..., Any]) -> str:
    """One name for a function, a method and an operator that do the same."""
    if func in _NAMES:
        return _NAMES[func]
    name: str = getattr(func, "__name__", type(func).__name__)
    if isinstance(func, types.FunctionType) and not func.__module__.startswith("torch"):
        return f"{func.__module__}.{name}"
    if name in ("__get__", "__set__"):
        attribute = getattr(getattr(func, "__self__", None), "__name__", "")
        return attribute if name == "__get__" else f"{attribute} ="
    return name


_OFF = dict.fromkeys(
    ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"),
    lambda *args: False,
)


def opened(func: Any) -> Callable[..., Any]:
    """The same Python function, which calls what it is made of rather than be intercepted."""
    scope = {**func.__globals__, **_OFF}
    same = types.FunctionType(
        func.__code__, scope, func.__name__, func.__defaults__, func.__closure__
    )
    same.__kwdefaults__ = func.__kwdefaults__
    return same


HARMLESS = frozenset({
    "shape", "size", "dim", "ndim", "ndimension", "dtype", "device", "layout", "numel",
    "nelement", "stride", "is_contiguous", "is_cuda", "is_cpu", "requires_grad", "element_size",
    "is_floating_point", "is_complex", "__len__", "__hash__", "is_leaf", "is_sparse",
    "is_quantized", "is_nested", "is_meta", "is_mps", "is_xpu", "storage_offset", "get_device",
    "_version", "grad_fn", "names", "itemsize", "nbytes", "is_mkldnn", "is_signed", "is_conj",
    "is_neg", "is_inference", "is_same_size", "result_type", "_set_grad_enabled", "is_tensor",
    "is_storage", "data_ptr", "broadcast_shapes", "promote_types", "can_cast", "output_nr",
    "has_names", "is_shared", "is_pinned",
})  # fmt: skip
