"""Utilisation and energy of an NVIDIA GPU, from NVML through nvidia-ml-py (extra "gpu").

NVML's utilisation is the share of a window of 1/6 to 1 s in which some kernel ran, however small;
it is sampled in a thread and labelled so. GPUs from Hopper on also count how busy their
multiprocessors and memory were between two samples (GPM).
"""

from __future__ import annotations

import statistics
import threading
from dataclasses import dataclass
from typing import Any

import torch

from binomctl.curvature.analytic.precision import gpu_precision

EVERY = 0.1  # seconds between samples
GPM = {
    "sm_activity": ("NVML_GPM_METRIC_SM_UTIL", "share of multiprocessors with work, GPM"),
    "sm_occupancy": ("NVML_GPM_METRIC_SM_OCCUPANCY", "share of their warp slots in use, GPM"),
    "dram_bandwidth": ("NVML_GPM_METRIC_DRAM_BW_UTIL", "share of the memory's bandwidth, GPM"),
}


@dataclass(frozen=True)
class Gpu:
    """NVML, initialised, and its handle of a device."""

    nvml: Any
    handle: Any


def open_gpu(device: torch.device) -> tuple[Gpu | None, str]:
    """The device in NVML's eyes, found by its UUID; or None and why not."""
    try:
        import pynvml
    except ImportError:
        return None, "nvidia-ml-py is not installed: pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        if uuid.startswith("MIG"):
            return None, "the device is a MIG instance, whose utilisation NVML does not report"
        name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        if _answer(pynvml, lambda: pynvml.nvmlDeviceGetMigMode(handle)[0]):
            return None, "MIG is on, and NVML reports no utilisation of an instance"
        processes = _answer(pynvml, lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        if processes is not None and len(processes) > 1:
            return None, f"{len(processes) - 1} other process(es) run on the card"
        pynvml.nvmlDeviceGetUtilizationRates(handle)
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    return Gpu(pynvml, handle), ""


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """Name, driver, clocks, power limit, as far as NVML says."""
    about: dict[str, Any] = {
        "name": torch.cuda.get_device_name(device),
        "capability": list(torch.cuda.get_device_capability(device)),
        **{f"precision_{name}": value for name, value in gpu_precision().items()},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    gpu, reason = open_gpu(device)
    if gpu is None:
        return about | {"nvml": reason}
    n, h = gpu.nvml, gpu.handle
    questions = {
        "driver": lambda: n.nvmlSystemGetDriverVersion(),
        "clock_sm_mhz": lambda: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),
        "clock_memory_mhz": lambda: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM),
        "clock_sm_max_mhz": lambda: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_SM),
        "power_limit_w": lambda: n.nvmlDeviceGetPowerManagementLimit(h) / 1000,
    }
    return about | {name: _answer(n, ask) for name, ask in questions.items()}


def _answer(nvml: Any, ask: Any) -> Any:
    try:
        return ask()
    except nvml.NVMLError:  # this device does not tell
        return None


class GpuMeter:
    """Samples a GPU while it is entered."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._samples: list[float] = []
        self._millijoules = 0.0
        self._counts: dict[str, list[float]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._energy: float | None = None
        self._before: Any = None

    def __enter__(self) -> GpuMeter:
        n, h = self._gpu.nvml, self._gpu.handle
        self._energy = _answer(n, lambda: n.nvmlDeviceGetTotalEnergyConsumption(h))
        self._before = self._gpm_sample()
        self._stop.clear()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        n, h = self._gpu.nvml, self._gpu.handle
        after = _answer(n, lambda: n.nvmlDeviceGetTotalEnergyConsumption(h))
        if after is not None and self._energy is not None:
            self._millijoules += after - self._energy
        self._read_gpm(self._before, self._gpm_sample())

    def report(self, steps: int) -> dict[str, Any]:
        if not self._samples:
            return {"utilization": None, "utilization_reason": "NVML gave no sample"}
        meaning = "share of time with a kernel running (NVML)"
        found: dict[str, Any] = {
            "utilization": {
                "value": round(statistics.fmean(self._samples), 4),
                "meaning": meaning,
                "samples": len(self._samples),
            }
        }
        for name, (_, label) in GPM.items():
            if values := self._counts.get(name):
                found[name] = {"value": round(statistics.fmean(values), 4), "meaning": label}
        if self._millijoules and steps:
            found["energy_per_step_j"] = round(self._millijoules / 1000 / steps, 4)
        return found

    def _sample(self) -> None:
        n, h = self._gpu.nvml, self._gpu.handle
        while not self._stop.wait(EVERY):
            rates = _answer(n, lambda: n.nvmlDeviceGetUtilizationRates(h))
            if rates is not None:
                self._samples.append(rates.gpu / 100)

    def _gpm_sample(self) -> Any:
        n, h = self._gpu.nvml, self._gpu.handle
        if not hasattr(n, "nvmlGpmSampleAlloc"):
            return None

        def take() -> Any:
            if not n.nvmlGpmQueryDeviceSupport(h).isSupportedDevice:
                return None
            sample = n.nvmlGpmSampleAlloc()
            n.nvmlGpmSampleGet(h, sample)
            return sample

        return _answer(n, take)

    def _read_gpm(self, before: Any, after: Any) -> None:
        n = self._gpu.nvml
        if before is None or after is None:
            return

        def read() -> None:
            wanted = n.c_nvmlGpmMetricsGet_t()
            wanted.version = n.NVML_GPM_METRICS_GET_VERSION
            wanted.numMetrics = len(GPM)
            wanted.sample1, wanted.sample2 = before, after
            for i, (constant, _) in enumerate(GPM.values()):
                wanted.metrics[i].metricId = getattr(n, constant)
            n.nvmlGpmMetricsGet(wanted)
            for i, name in enumerate(GPM):
                if wanted.metrics[i].nvmlReturn == n.NVML_SUCCESS:
                    self._counts.setdefault(name, []).append(wanted.metrics[i].value / 100)

        _answer(n, read)
        for sample in (before, after):
            _answer(n, lambda sample=sample: n.nvmlGpmSampleFree(sample))
