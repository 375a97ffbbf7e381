"""How convolutions are done fastest, by a short measurement, kept per machine and shape.

What is kept decides from then on, so that two runs of one configuration on a machine compute the
same numbers to the last bit. Without a place to keep it nothing is measured.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import platformdirs
import torch
from torch import Tensor

from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.engine import AnalyticEngine, Convolution
from binomctl.curvature.traits import threads_for
from binomctl.errors import ResourceError
from binomctl.files.atomic import write_json
from binomctl.machine.devices import is_out_of_memory
from binomctl.machine.environment import processor

CANDIDATES: dict[str, tuple[Convolution, ...]] = {
    "cpu": ("blocks", "per-task", "together", "products"),  # grouped: always slower there
    "cuda": ("grouped", "products", "together"),
}
"""The first, an engine's default, is taken unless another one is clearly faster."""
CLEARLY = 0.9
ROUNDS, SECONDS = 5, 2.0
HOPELESS = 2.5  # a first run is up to twice as slow as the next
PATIENCE, ABANDONED = 30.0, 120.0
"""Seconds that another process's answer is waited for, and after which it will not come."""
_LOG = logging.getLogger("binomctl")
_NOTES = logging.getLogger("binomctl.notes")
"""What takes seconds, for the person who waits: the command line shows it."""


def measured_convolution(
    first: AnalyticEngine, theta: Tensor, sets: tuple[Tensor, ...]
) -> Convolution:
    """The way of convolution for steps on such sets, from the cache or measured now.

    Args:
        first: an engine that does them in the default way.
        theta: parameters [d].
        sets: x_trn, y_trn, x_val, y_val of a meta-batch, each [B, N, ...].
    """
    candidates = CANDIDATES.get(theta.device.type, ("grouped",))
    subject = _subject(first, theta, sets)
    digest = hashlib.sha256(json.dumps(subject).encode()).hexdigest()[:16]
    path = _folder() / f"convolution-{digest}.json"
    if (kept := _kept(path)) is not None:
        return kept
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and time.time() - path.stat().st_mtime > ABANDONED:
            path.unlink(missing_ok=True)
        with path.open("x"):  # whoever is first measures
            pass
    except FileExistsError:
        return _awaited(path) or candidates[0]
    except OSError:
        return candidates[0]
    _NOTES.info(
        "measuring how convolutions of this size are fastest; kept in %s for the next time",
        path.parent,
    )
    try:
        default = candidates[0]
        others = {c: first.done_by(c) for c in candidates[1:]}
        milliseconds = _race({default: first, **others}, theta, sets)
        quickest = min(milliseconds, key=milliseconds.__getitem__, default=default)
        clear = milliseconds.get(quickest, 0) < CLEARLY * milliseconds.get(default, float("inf"))
        chosen = quickest if clear else default
        write_json(path, {"convolution": chosen, "milliseconds": milliseconds, "of": subject})
    except (ResourceError, OSError):  # a full disk keeps nothing, and stops nobody
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return candidates[0]
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    _LOG.debug("convolutions: %s, measured (ms) %s, kept in %s", chosen, milliseconds, path)
    return chosen


def _awaited(path: Path) -> Convolution | None:
    """What another process, now measuring, finds: two runs started together compute alike."""
    end = time.monotonic() + PATIENCE
    with suppress(OSError):  # who measures gave up, or nothing can be kept here
        while path.stat().st_size == 0 and time.monotonic() < end:
            time.sleep(0.05)
    return _kept(path)


def _folder() -> Path:
    return Path(platformdirs.user_cache_dir("binomctl"))


def _kept(path: Path) -> Convolution | None:
    known: tuple[Convolution, ...] = get_args(Convolution)
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text())["convolution"]
        return next((name for name in known if name == found), None)
    return None


def _subject(engine: AnalyticEngine, theta: Tensor, sets: tuple[Tensor, ...]) -> dict[str, Any]:
    """What the answer depends on."""
    on_gpu = theta.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(theta.device) if on_gpu else processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "kernels": native.identity(),
        "dtype": str(theta.dtype),
        "network": [[_named(n.layer), *map(str, n.inputs)] for n in engine.program.nodes],
        "parameters": [list(shape) for shape in engine.layout.shapes],
        "sets": [list(t.shape) for t in sets],
    }


def _named(layer: object) -> str:
    """A layer in words that are the same tomorrow: functions by name, not by where they lie."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(layer))


def _race(
    engines: dict[Convolution, AnalyticEngine], theta: Tensor, sets: tuple[Tensor, ...]
) -> dict[Convolution, float]:
    """Milliseconds of an inner gradient, a product and a query gradient; the least of a few
    rounds, in which all run in turn. An engine that runs out of memory drops out; one whose first
    run is HOPELESS times as slow as the first engine's best keeps that time and runs no more."""
    x_trn, y_trn, x_val, y_val = sets
    phi = theta.expand(len(x_trn), -1)
    times: dict[Convolution, list[float]] = {}

    def run(engine: AnalyticEngine) -> float:
        start = time.perf_counter()
        with threads_for(engine, len(x_trn)):
            at = engine.curvature(x_trn, y_trn)
            _, gradient = at.gradient(phi, 0, keep=True)
            at.hvp([0], gradient.unsqueeze(1))
            engine.query(phi, x_val, y_val)
        if theta.device.type == "cuda":
            torch.cuda.synchronize(theta.device)
        return 1e3 * (time.perf_counter() - start)

    def timed(name: Convolution, *, warm_up: bool = False) -> None:
        try:
            taken = run(running[name])
        except (RuntimeError, MemoryError, ResourceError) as error:
            if not is_out_of_memory(error):
                raise
            running.pop(name)
            times.pop(name, None)
            return
        if not warm_up:
            times.setdefault(name, []).append(round(taken, 3))
        elif times and taken > HOPELESS * min(min(of) for of in times.values()):
            times[name] = [round(taken, 3)]
            running.pop(name)

    running = dict(engines)
    began = time.perf_counter()
    for name in engines:
        timed(name, warm_up=True)
        if name in running:
            timed(name)
    for _ in range(ROUNDS - 1):
        if time.perf_counter() - began > SECONDS:
            break
        for name in list(running):
            timed(name)
    return {name: min(of) for name, of in times.items()}
