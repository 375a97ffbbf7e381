"""Compiles kernels/ with the machine's C compiler, once; calls run without the interpreter lock.

No compiler, no kernels: the same maps then run as torch operations (conv.py, norm_block.py).
Switched off by BINOMCTL_NATIVE=0.
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import platformdirs
import torch
from torch import Tensor

from binomctl.errors import ResourceError
from binomctl.machine.op_threads import kernel_threads

SWITCH = "BINOMCTL_NATIVE"
FEWER = "Take fewer tasks at once: training.meta_batch, or fewer in a call."
FOLDER = Path(__file__).with_name("kernels")
Part = Literal["block", "chain"]
"""What a library is of: convolutional blocks (block.c), or perceptrons (chain.c)."""
# Without traps, comparisons of floats become vector instructions; values stay what they are.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-fPIC",
         "-pthread")  # fmt: skip
REALS = {torch.float32: "float", torch.float64: "double"}
_LOG = logging.getLogger("binomctl")


Argument = (
    Tensor
    | int
    | ctypes.Structure
    | ctypes.Array[ctypes.c_double]
    | ctypes.Array[ctypes.c_int64]
    | None
)


class Shape(ctypes.Structure):
    """Sizes of a block, as kernels/common.h has them."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "N", "H", "W", "I", "C", "k", "X")),
        ("eps", ctypes.c_double),
        ("slope", ctypes.c_double),
        ("threads", ctypes.c_int64),
    )


_NAMES = [
    "x",
    "tx",
    "gx",
    "tgx",
    "w",
    "tw",
    "gw",
    "tgw",
    "z",
    "tz",
    "gz",
    "tgz",
    "a",
    "xh",
    "ta",
    "txh",
    "ga",
    "tga",
    "gamma",
    "beta",
    "tgamma",
    "tbeta",
    "mu",
    "inv",
    "tmu",
    "tinv",
    "ggamma",
    "gbeta",
    "tggamma",
    "tgbeta",
    "arg",
]


class _Tensors(ctypes.Structure):
    """A pointer and the step from task to task of every tensor, in common.h's order."""

    _fields_ = tuple(
        field
        for name in _NAMES
        for field in ((name, ctypes.c_void_p), (f"{name}_step", ctypes.c_int64))
    )


def available(x: Tensor, part: Part = "block") -> bool:
    """Whether the kernels can work on tensors like x: on a CPU, of a type they know, compiled."""
    known = x.device.type == "cpu" and x.dtype in REALS
    return known and _library(REALS[x.dtype], part) is not None


def compiled() -> bool:
    """Whether there are kernels of blocks."""
    return _library("float", "block") is not None


def identity() -> str:
    """Which kernels these are; "" without."""
    library = _library("float", "block")
    return "" if library is None else Path(library._name).stem


def call(name: str, shape: Shape, **tensors: Tensor | None) -> None:
    """Run a kernel on tensors of one type by their names in common.h; None passes a null pointer.

    All of a task must lie together in memory (`packed`); from task to task any step will do.

    Raises:
        ResourceError: there is no memory for its work space.
    """
    there = {n: t for n, t in tensors.items() if t is not None}
    types = {t.dtype for n, t in there.items() if n != "arg"}
    if len(types) != 1 or not types <= set(REALS) or any(not t.is_cpu for t in there.values()):
        raise TypeError(f"{name} wants tensors of one type on a CPU, not {sorted(map(str, types))}")
    real = REALS[types.pop()]
    shape.threads = kernel_threads()
    data = _Tensors()
    for n, t in there.items():
        setattr(data, n, t.data_ptr())
        setattr(data, f"{n}_step", t.stride(0))
    library = _library(real, "block")
    if library is None:
        raise ResourceError(f"the kernels for {real} could not be compiled", f"Set {SWITCH}=0.")
    if getattr(library, name)(ctypes.byref(shape), ctypes.byref(data)):
        raise ResourceError("no memory left for a pass of a block", FEWER)


def integer(name: str, dtype: torch.dtype, *arguments: Argument) -> int:
    """What the kernel of chain.c for numbers of a type returns. Tensors become their addresses,
    None a null pointer.

    Raises:
        TypeError: a tensor of another type, which would be read as one of this.
    """
    library = _library(REALS[dtype], "chain")
    assert library is not None  # `available` has been asked
    words = [_word(a, dtype) for a in arguments]
    return int(_function(library, name, len(words))(*words))


@functools.lru_cache(maxsize=64)
def _function(library: ctypes.CDLL, name: str, words: int) -> Callable[..., int]:
    """A kernel whose arguments are machine words."""
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * words)
    return kind((name, library))


def _word(argument: Argument, dtype: torch.dtype) -> int:
    """A number, or an address, which the caller keeps alive."""
    if isinstance(argument, Tensor):
        if argument.dtype not in (dtype, torch.long) or not argument.is_cpu:
            raise TypeError(f"a kernel for {dtype} on a CPU wants no {argument.dtype} tensor")
        return argument.data_ptr()
    if isinstance(argument, int):
        return argument
    return 0 if argument is None else ctypes.addressof(argument)


def packed(t: Tensor) -> Tensor:
    """t [T, ...] with every task's part in one piece of memory, without a copy where it is so."""
    return t if t[0].is_contiguous() else t.contiguous()


@functools.lru_cache(maxsize=4)
def _library(real: str, part: Part) -> ctypes.CDLL | None:
    if os.environ.get(SWITCH, "1") == "0":
        return None
    compiler = next(filter(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")), None)
    if compiler is None or sys.platform == "win32":
        _LOG.debug("no C compiler: torch operations take the place of kernels")
        return None
    sources = [path.read_bytes() for path in sorted(FOLDER.iterdir())]
    about = repr((FLAGS, _machine(), compiler, torch.__version__)).encode()
    key = hashlib.sha256(b"\0".join([*sources, about]))
    cache, stamp = Path(platformdirs.user_cache_dir("binomctl")), key.hexdigest()[:16]
    paths = {real: cache / f"{part}-{real}-{stamp}.so" for real in REALS.values()}
    try:
        if not paths[real].exists():  # both: what floats compute is checked in doubles
            with ThreadPoolExecutor(len(paths)) as pool:
                list(pool.map(functools.partial(_compile, compiler, part), paths, paths.values()))
        return ctypes.CDLL(str(paths[real]), mode=os.RTLD_NOW)
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.debug("the kernels could not be compiled or loaded: %s", error)
        return None


def _compile(compiler: str, part: Part, real: str, path: Path) -> None:
    """Write beside the target, then rename: other processes see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        objects = {FOLDER / f"{name}.c": Path(folder) / f"{name}.o" for name in (part, "pool")}
        flags = (*FLAGS, f"-DREAL={real}", "-c")
        commands = [[compiler, *flags, str(s), "-o", str(o)] for s, o in objects.items()]
        linked = [*map(str, objects.values()), "-o", str(made), "-lm", "-pthread"]
        commands.append([compiler, "-shared", *linked])
        for command in commands:
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
