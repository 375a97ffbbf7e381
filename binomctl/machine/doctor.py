"""What a machine has of what binomctl needs, and of what it can use."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import platformdirs

from binomctl.words import number_of

State = Literal["good", "absent", "broken"]
LEAST_PYTHON, LEAST_FREE = (3, 11), 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. absent: it is optional and not there; broken: it is needed; hint: what
    would mend it."""

    name: str
    state: State
    said: str
    hint: str = ""

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def examine() -> list[Finding]:
    """Python, torch, devices, NVML, the C compiler and caches; each look is safe to fail."""
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("Python", _python), ("torch", _torch), ("GPUs", _gpus), ("NVML", _nvml),
        ("C compiler", _compiler), ("cache", _cache), ("disk", _disk),
    ]  # fmt: skip
    found = []
    for name, look in looks:
        try:
            found.append(look())
        except Exception as error:
            found.append(Finding(name, "broken", f"{type(error).__name__}: {error}"))
    return found


def package(name: str, hint: str) -> Finding:
    """An optional package by its distribution's name."""
    try:
        return Finding(name, "good", version(name))
    except PackageNotFoundError:
        return Finding(name, "absent", "not installed", hint)


def _python() -> Finding:
    here = sys.version_info[:2]
    said = f"{sys.version.split()[0]}, {sys.executable}"
    if here < LEAST_PYTHON:
        return Finding("Python", "broken", said, "binomctl needs Python 3.11 or newer.")
    return Finding("Python", "good", said)


def _torch() -> Finding:
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    said = f"{torch.__version__}, {cuda}, {number_of(torch.get_num_threads(), 'thread')}"
    torch.func.grad(lambda x: (x * x).sum())(torch.ones(2))  # it computes
    return Finding("torch", "good", said)


def _gpus() -> Finding:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if names:
        return Finding("GPUs", "good", ", ".join(names))
    return Finding("GPUs", "absent", "none: everything runs on the CPU")


def _nvml() -> Finding:
    try:
        import pynvml
    except ImportError:
        return Finding(
            "NVML", "absent", "nvidia-ml-py is not installed: profile has no utilisation or energy",
            "pip install nvidia-ml-py",
        )  # fmt: skip
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Finding("NVML", "absent", f"no NVIDIA driver answers: {error}")
    said = f"driver {pynvml.nvmlSystemGetDriverVersion()}"
    pynvml.nvmlShutdown()
    return Finding("NVML", "good", said)


def _compiler() -> Finding:
    slower = "convolutions and perceptrons take torch's own operations, and are slower"
    if sys.platform == "win32":
        return Finding("C compiler", "absent", f"not used on Windows: {slower}")
    if os.environ.get("BINOMCTL_NATIVE") == "0":
        return Finding("C compiler", "absent", f"BINOMCTL_NATIVE=0: {slower}", "Unset it.")
    for name in (os.environ.get("CC", "cc"), "gcc", "clang"):
        if found := shutil.which(name):
            return Finding("C compiler", "good", found)
    return Finding("C compiler", "absent", f"none: {slower}", "Install gcc or clang.")


def _cache() -> Finding:
    folder = Path(platformdirs.user_cache_dir("binomctl"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "cache", "broken", f"{folder} cannot be written: {error.strerror}",
            "Set XDG_CACHE_HOME to a folder of yours.",
        )  # fmt: skip
    return Finding("cache", "good", str(folder))


def _disk() -> Finding:
    here = os.getcwd()
    free = shutil.disk_usage(here).free
    said = f"{free / 1e9:.1f} GB free in {here}"
    if free < LEAST_FREE:
        return Finding("disk", "broken", said, "Free some space: runs and data need a gigabyte.")
    return Finding("disk", "good", said)
