"""Where tensors live."""

from __future__ import annotations

import torch

from binomctl.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """auto (the GPU where there is one), cpu, cuda or cuda:N.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"unknown device '{name}'", "Valid: auto, cpu, cuda, cuda:N.", key="device"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"device '{name}' is not supported", "Valid: auto, cpu, cuda, cuda:N.", key="device"
        )
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(
            f"device '{name}' is not available: torch {torch.__version__} sees {count} GPUs",
            "Use --device cpu, or --device auto to take a GPU where there is one.",
            key="device",
        )
    return device
