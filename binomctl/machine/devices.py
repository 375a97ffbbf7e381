"""Where tensors live."""

from __future__ import annotations

import os

import torch

from binomctl.errors import ConfigError, ResourceError
from binomctl.machine.launched import world_size
from binomctl.words import number_of


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch's CPU allocator says so in words alone."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | ResourceError):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def run_deterministically() -> None:
    """Let torch take algorithms that give the same bits every time, for the rest of the process."""
    # cuBLAS reads it when it is first used: its default workspace makes sums in any order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def choose_device(name: str) -> torch.device:
    """auto (the GPU where there is one), cpu, cuda or cuda:N.

    In a run of several processes auto and cuda are the GPU of the process' number on its machine.

    Raises:
        ConfigError: no such device here, or one for several processes.
    """
    several = world_size() > 1
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if several and name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', os.environ['RANK'])}"
    elif several and name.startswith("cuda:"):
        raise ConfigError(
            f"device '{name}' is one GPU, and every process of a run needs its own",
            "Use --device cuda.",
            key="device",
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"unknown device '{name}'", "Valid: auto, cpu, cuda, cuda:N.", key="device"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"device '{name}' is not supported", "Valid: auto, cpu, cuda, cuda:N.", key="device"
        )
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(
            f"device '{name}' is not available: torch {torch.__version__} sees"
            f" {number_of(count, 'GPU')}",
            "Use --device cpu, or --device auto to take a GPU where there is one.",
            key="device",
        )
    return device
