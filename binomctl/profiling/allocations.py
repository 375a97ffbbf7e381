"""Peak memory on a CPU, exactly: every allocation and release that torch itself makes.

Resident-set readings depend on what the allocator kept from before; hooks on saved tensors miss
what is not saved. torch's profiler records each allocation and release of tensor memory in the
order they happened, on every thread, so the running sum is exact and the same in every run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile


def peak_allocated(function: Callable[[], object]) -> int:
    """Peak bytes of CPU tensors alive during function(), beyond those alive before it.

    Args:
        function: called once; what it returns is dropped.

    Returns:
        Bytes, deterministic for a deterministic single-threaded function.
    """
    watched = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _without_words(), watched as recorded:
        function()
    # The public events lose the order of allocations within an operator; these keep it.
    events = recorded.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    alive = peak = 0
    for _, change in sorted(changes, key=lambda event: event[0]):
        alive += change
        peak = max(peak, alive)
    return peak


def peak_on_a_gpu(device: torch.device, function: Callable[[], object]) -> tuple[int, int]:
    """Bytes that torch's allocator held before function(), and at most during it."""
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function()
    torch.cuda.synchronize(device)
    return before, torch.cuda.max_memory_allocated(device)


@contextmanager
def _without_words() -> Iterator[None]:
    """The profiler's libraries write of their comings and goings straight to descriptor 2."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
