"""How busy a machine was over a stretch of steps: a value with its meaning, or null and why."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Protocol

import psutil
import torch

from binomctl.machine.cores import cores
from binomctl.profiling.nvml import GpuMeter, open_gpu


class Meter(Protocol):
    """Watches while it is entered; what it saw adds up over several stretches."""

    def __enter__(self) -> Meter: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def report(self, steps: int) -> dict[str, Any]:
        """{"utilization": {...} or None, "utilization_reason": ...} and what else a device says."""
        ...


def meter(device: torch.device) -> Meter:
    """The meter of a device."""
    if device.type != "cuda":
        return CpuMeter()
    gpu, reason = open_gpu(device)
    return GpuMeter(gpu) if gpu is not None else Silent(reason)


class CpuMeter:
    """Share of the cores that this process kept busy."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cores = len(cores())
        self._busy = self._wall = 0.0
        self._start = (0.0, 0.0)

    def __enter__(self) -> CpuMeter:
        self._start = (self._cpu(), time.perf_counter())
        return self

    def __exit__(self, *error: object) -> None:
        busy, start = self._start
        self._busy += self._cpu() - busy
        self._wall += time.perf_counter() - start

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def report(self, steps: int) -> dict[str, Any]:
        if self._wall < 0.1:  # the kernel counts in hundredths of a second
            return {"utilization": None, "utilization_reason": "less than 0.1 s was measured"}
        share = min(1.0, self._busy / (self._wall * self._cores))
        # A thread of torch that waits for the others spins, and counts.
        meaning = f"share of {self._cores} cores that this process kept busy, spinning included"
        return {"utilization": {"value": round(share, 4), "meaning": meaning}}


class Silent:
    """Nothing can be known, for a reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def report(self, steps: int) -> dict[str, Any]:
        return {"utilization": None, "utilization_reason": self._reason}
