"""Hessian-vector products in fewer bits than the rest, by explicit option alone.

bf16 keeps every linearisation and computes every product in bfloat16 (half the memory); tf32 lets
the matrix units of a GPU round the operands of convolutions and matrix products to 10 bits.
Losses, gradients and adaptation stay as they are. `binomctl error-analysis` prints what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from binomctl.errors import ConfigError

Precision = Literal["full", "tf32", "bf16"]


def check_precision(precision: Precision, device: torch.device, dtype: torch.dtype) -> None:
    """Raises ConfigError where a precision does not exist."""
    if precision == "full":
        return
    hint = "Use engine.precision=full."
    if dtype != torch.float32:
        hint = "Use dtype=float32, or engine.precision=full."
        reason = f"it is for parameters of torch.float32, and these are {dtype}"
    elif precision == "tf32" and device.type != "cuda":
        reason = "only NVIDIA GPUs know it"
    elif precision == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        reason = f"{torch.cuda.get_device_name(device)} does not know it"
    else:
        return
    raise ConfigError(f"engine.precision = {precision}: {reason}", hint, key="engine.precision")


@contextmanager
def tensor_cores() -> Iterator[None]:
    """TF32 for convolutions and matrix products inside; as it was afterwards."""
    parts = _parts()
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = "tf32"
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            part.fp32_precision = value


def ieee_on_gpus() -> None:
    """No TF32 unless asked for: torch has it on for convolutions and off for matrix products."""
    for part in _parts():
        part.fp32_precision = "ieee"


def gpu_precision() -> dict[str, str]:
    """What torch computes float32 convolutions and matrix products in: "ieee" or "tf32"."""
    convolution, product = _parts()
    return {"convolution": convolution.fp32_precision, "matrix_product": product.fp32_precision}


def _parts() -> tuple[Any, Any]:
    return torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]
