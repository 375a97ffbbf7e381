"""Utilisation and energy of GPUs, as far as they can be played."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
import torch

from binomctl.profiling import nvml


class NVMLError(Exception):
    pass


def play(monkeypatch, **answers):
    """A pynvml that answers as told; everything else is not supported."""
    fake = SimpleNamespace(
        NVMLError=NVMLError, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, nvmlInit=lambda: None
    )

    def refuse(*args):
        raise NVMLError("Not Supported")

    names = (
        "nvmlDeviceGetHandleByUUID nvmlDeviceGetMigMode nvmlDeviceGetComputeRunningProcesses"
        " nvmlDeviceGetUtilizationRates nvmlDeviceGetTotalEnergyConsumption"
        " nvmlSystemGetDriverVersion nvmlDeviceGetClockInfo nvmlDeviceGetMaxClockInfo"
        " nvmlDeviceGetPowerManagementLimit"
    )
    for name in names.split():
        setattr(fake, name, answers.get(name, refuse))
    if "nvmlInit" in answers:
        fake.nvmlInit = answers["nvmlInit"]
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    uuid = answers.get("uuid", "1234-5678")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuid)
    )
    return fake


WORKING = {
    "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
    "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=50),
}


def broken():
    raise NVMLError("Driver Not Loaded")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"nvmlInit": broken}, "NVML: Driver Not Loaded"),
        ({"uuid": "MIG-77"}, "MIG instance"),
        (WORKING | {"nvmlDeviceGetMigMode": lambda handle: [1, 1]}, "MIG is on"),
        (
            WORKING | {"nvmlDeviceGetComputeRunningProcesses": lambda handle: [1, 2, 3]},
            "2 other process",
        ),
        ({"nvmlDeviceGetHandleByUUID": lambda uuid: uuid}, "NVML: Not Supported"),
    ],
)
def test_why_a_gpu_s_utilisation_is_not_known(monkeypatch, answers, reason):
    play(monkeypatch, **answers)
    gpu, said = nvml.open_gpu(torch.device("cuda"))
    assert gpu is None
    assert reason in said


def test_a_gpu_is_found_by_its_uuid_and_sampled(monkeypatch):
    energy = iter([1000, 4000])
    play(monkeypatch, **WORKING,
         nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(energy))  # fmt: skip
    gpu, _ = nvml.open_gpu(torch.device("cuda"))
    assert gpu.handle == "GPU-1234-5678"
    watch = nvml.GpuMeter(gpu)
    with watch:
        time.sleep(0.35)
    found = watch.report(steps=6)
    assert found["utilization"]["value"] == 0.5
    assert found["utilization"]["meaning"] == "share of time with a kernel running (NVML)"
    assert found["utilization"]["samples"] >= 2
    assert found["energy_per_step_j"] == 0.5


def test_without_the_package_the_reason_is_its_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpu, reason = nvml.open_gpu(torch.device("cuda"))
    assert gpu is None
    assert "nvidia-ml-py" in reason
