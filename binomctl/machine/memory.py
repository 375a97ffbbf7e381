"""A lack of memory, in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from binomctl.errors import ResourceError
from binomctl.machine.devices import is_out_of_memory


@contextmanager
def out_of_memory_in_words(device: torch.device, advice: str) -> Iterator[None]:
    """Turn a lack of memory into one sentence.

    Raises:
        ResourceError: with the peak so far and what to lower.
    """
    try:
        yield
    except ResourceError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise ResourceError(
            f"out of memory on {device}, with {_gib(peak_bytes(device))} at the peak: {reason}",
            advice,
        ) from error


def peak_bytes(device: torch.device) -> int:
    """The most memory that was held so far: the device's, or this process' on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return most_resident()


def most_resident() -> int:
    """The largest resident set that this process had, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
