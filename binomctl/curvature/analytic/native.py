"""Compiles kernels.c with the machine's C compiler, once; calls run without the interpreter lock.

No compiler, no kernels: the same maps then run as torch operations (norm_block.py). Switched off by
BINOMCTL_NATIVE=0.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from binomctl.errors import ResourceError

SWITCH = "BINOMCTL_NATIVE"
SOURCE = Path(__file__).with_name("kernels.c")
# Without traps, comparisons of floats become vector instructions; values stay what they are.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
REALS = {torch.float32: "float", torch.float64: "double"}
_LOG = logging.getLogger("binomctl")


class Shape(ctypes.Structure):
    """Sizes of a block as kernels.c has them: z [T, N, H, W, C], window k, eps, slope below 0."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "N", "H", "W", "C", "k")),
        ("eps", ctypes.c_double),
        ("slope", ctypes.c_double),
    )


def available(x: Tensor) -> bool:
    """Whether the kernels can work on tensors like x: on a CPU, of a type they know, compiled."""
    return x.device.type == "cpu" and x.dtype in REALS and _library(REALS[x.dtype]) is not None


def call(name: str, shape: Shape, *tensors: Tensor | None) -> None:
    """Run a kernel on contiguous tensors of one type; None passes a null pointer.

    Raises:
        ResourceError: there is no memory for its work space.
    """
    first = next(t for t in tensors if t is not None)
    library = _library(REALS[first.dtype])
    pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]
    if getattr(library, name)(ctypes.byref(shape), *pointers):
        raise ResourceError(f"no memory left for {name}", "Lower training.meta_batch.")


@functools.lru_cache(maxsize=2)
def _library(real: str) -> ctypes.CDLL | None:
    if os.environ.get(SWITCH, "1") == "0":
        return None
    compiler = next(filter(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")), None)
    if compiler is None or sys.platform == "win32":
        _LOG.debug("no C compiler: batch-norm blocks run as torch operations")
        return None
    source = SOURCE.read_bytes()
    key = hashlib.sha256(b"\0".join([source, repr(FLAGS).encode(), _machine().encode()]))
    name = f"kernels-{real}-{key.hexdigest()[:16]}.so"
    path = Path(platformdirs.user_cache_dir("binomctl")) / name
    try:
        if not path.exists():
            _compile(compiler, real, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.debug("kernels.c could not be compiled or loaded: %s", error)
        return None


def _compile(compiler: str, real: str, path: Path) -> None:
    """Write beside the target, then rename: other processes see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [compiler, *FLAGS, f"-DREAL={real}", str(SOURCE), "-o", str(made), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        os.replace(made, path)


def _machine() -> str:
    """What -march=native depends on: a home may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()} {flags}"
