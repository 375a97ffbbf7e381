"""Cells measured in turn, round after round, so that drift of the machine meets all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from binomctl.errors import BinomctlError, ResourceError
from binomctl.machine.devices import is_out_of_memory
from binomctl.problem.cases import Case
from binomctl.problem.record import Problem
from binomctl.profiling.allocations import peak_on_a_gpu
from binomctl.profiling.fresh import peak_resident
from binomctl.profiling.observed import counted, timed_step
from binomctl.profiling.utilization import Meter, meter
from binomctl.profiling.work import Work
from binomctl.training.recordable import captures, compiles
from binomctl.training.state import MetaState
from binomctl.training.step import StepFunction, step_function

ROUNDS = 5


@dataclass
class Measured:
    """One cell and what was found so far; `failed` says why there is no more."""

    cell: Case
    problem: Problem
    state: MetaState
    whole: StepFunction | None
    watch: Meter
    warm_up_ms: float | None = None
    phases: list[dict[str, float]] = field(default_factory=list)
    products: int = 0
    levels: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    memory_failed: str | None = None
    failed: str | None = None

    @property
    def steps_ms(self) -> list[float]:
        return [sum(phases.values()) for phases in self.phases]

    def report(self, work: Work, rates: dict[str, float]) -> dict[str, Any]:
        """As in the JSON report; what is not known is null, with a reason beside it."""
        cell, how = self.cell, self.problem.config.adaptation
        out: dict[str, Any] = {
            "estimator": cell.name,
            "L": cell.L,
            "C": cell.C,
            "options": {k: v for k, v in cell.options.items() if k not in ("L", "C")},
            "engine": type(self.problem.engine).__name__.removesuffix("Engine").lower(),
            "failed": self.failed,
            "step_ms": None,
            "phases_ms": None,
            "warm_up_ms": self.warm_up_ms and round(self.warm_up_ms, 3),
            "peak_memory_bytes": self.memory.get("bytes"),
            "memory": self.memory or None,
            "memory_reason": self.memory_failed,
            "utilization": None,
            "hvps": self.products,
            "depth": self.levels,
            "flops": None,
            "flops_per_second": None,
            "share_of_peak": None,
        }
        if not self.phases:
            return out
        batch = self.problem.training_batch(range(1))
        seen = batch.mini_batches  # what an inner step sees
        support = batch.y_trn.shape[1] if seen is None else seen.shape[2]
        query = batch.y_val.shape[1]
        B = self.problem.config.training.meta_batch
        flops = work.step(how.K, B, support, query, self.products)
        out["step_ms"] = spread(self.steps_ms)
        out["phases_ms"] = {name: spread([p[name] for p in self.phases]) for name in self.phases[0]}
        out |= self.watch.report(len(self.phases))
        rate = flops / (out["step_ms"]["median"] / 1e3)
        out |= {"flops": flops, "flops_per_second": rate}
        out["share_of_peak"] = {name: round(rate / peak, 4) for name, peak in rates.items()}
        return out


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, p10, p90 (the value at that rank) and n."""
    ordered = sorted(values)
    n = len(ordered)
    return {
        "median": round(statistics.median(ordered), 4),
        "p10": round(ordered[int(0.1 * (n - 1))], 4),
        "p90": round(ordered[math.ceil(0.9 * (n - 1))], 4),
        "n": n,
    }


def prepare(base: Problem, cells: Sequence[Case]) -> list[Measured]:
    """The cells, each with its own step; nothing runs yet."""
    out = []
    for cell in cells:
        problem = cell.problem(base)
        as_one = bool(compiles(problem)) or captures(problem)
        whole = step_function(problem) if as_one else None
        out.append(Measured(cell, problem, MetaState(problem), whole, meter(base.device)))
    return out


def pieces(cells: Sequence[Measured]) -> int:
    """How often `measure` yields where no cell fails: it counts the work."""
    return len(cells) * (2 + _rounds(cells))


def _rounds(cells: Sequence[Measured]) -> int:
    # A GPU's utilisation is sampled over seconds: one long stretch tells more than five short.
    return ROUNDS if cells[0].problem.device.type != "cuda" else 1


def measure(
    cells: Sequence[Measured],
    seconds: float,
    say: Callable[[str], None] = lambda text: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Warm every cell up, then give each `seconds` in all, in ROUNDS rounds; then its memory.

    What was found is in the cells after every piece of work, at which this yields. A cell that
    runs out of memory, or whose step fails, is marked, and the others go on. Once `stopped` says
    so, a stretch ends after its step.
    """
    for one in cells:
        say(f"{one.cell.label}: warm-up")
        _guarded(one, lambda one=one: _warm_up(one))  # type: ignore[misc]
        yield
    rounds = _rounds(cells)
    for number in range(rounds):
        for one in cells:
            if one.failed is None:
                say(f"{one.cell.label}: round {number + 1} of {rounds}")
                _guarded(one, lambda one=one: _stretch(one, seconds / rounds, stopped))  # type: ignore[misc]
                yield
    say("memory")
    yield from _memory([one for one in cells if one.failed is None])


def _warm_up(one: Measured) -> None:
    B = one.problem.config.training.meta_batch
    seen = counted(one.problem, "columns")
    one.products, one.levels = seen.products, seen.levels
    start = time.perf_counter()
    timed_step(one.problem, one.state, range(B), one.whole)
    one.warm_up_ms = 1e3 * (time.perf_counter() - start)


def _stretch(one: Measured, seconds: float, stopped: Callable[[], bool]) -> None:
    """Steps for so many seconds, at least one; the first is not counted: it finds another
    cell's data in the caches."""
    B = one.problem.config.training.meta_batch

    def step() -> dict[str, float]:
        i = one.state.step
        return timed_step(one.problem, one.state, range(i * B, (i + 1) * B), one.whole)

    step()
    with one.watch:
        end = time.perf_counter() + seconds
        while True:
            one.phases.append(step())
            if time.perf_counter() >= end or stopped():
                return


def _guarded(one: Measured, work: Callable[[], object]) -> None:
    try:
        work()
    except (RuntimeError, MemoryError, BinomctlError) as error:
        if is_out_of_memory(error):
            one.failed = f"out of memory: {(str(error).splitlines() or ['no word'])[0]}"
        elif isinstance(error, BinomctlError):
            one.failed = str(error)
        else:
            raise


def _memory(cells: Sequence[Measured]) -> Iterator[None]:
    if not cells:
        return
    if cells[0].problem.device.type == "cuda":
        for one in cells:
            _try_memory(one)
            yield
        return
    pool = ThreadPoolExecutor(2)  # processes that measure their own memory alone
    try:
        yield from pool.map(_try_memory, cells)
    finally:  # those that have not begun never will
        pool.shutdown(cancel_futures=True)
    for one in cells:
        if one.memory_failed is not None:  # perhaps only beside another one
            _try_memory(one)
            yield


def _try_memory(one: Measured) -> None:
    try:
        measured_memory(one)
        one.memory_failed = None
    except (RuntimeError, MemoryError, ResourceError) as error:
        one.memory_failed = (str(error).splitlines() or ["no word"])[0]


def measured_memory(one: Measured) -> None:
    """Fill in a cell's memory: in a fresh process on a CPU, from torch's allocator on a GPU."""
    if one.problem.device.type == "cuda":
        _on_a_gpu(one)
    else:
        _on_a_cpu(one)


def _on_a_cpu(one: Measured) -> None:
    found = peak_resident(one.cell.config(one.problem.config))
    one.memory = {
        "bytes": max(0, found["peak_bytes"] - found["baseline_bytes"]),
        "meaning": "peak resident set of a fresh process, minus its resident set before the steps",
        **found,
    }


def _on_a_gpu(one: Measured) -> None:
    device, B = one.problem.device, one.problem.config.training.meta_batch
    # Not the recorded step: a replay allocates nothing, its memory was taken when it was recorded.
    before, peak = peak_on_a_gpu(device, lambda: timed_step(one.problem, one.state, range(B), None))
    one.memory = {
        "bytes": peak - before,
        "meaning": "peak of torch's allocator, minus what was allocated before the step",
        "baseline_bytes": before,
        "peak_bytes": peak,
        "reserved_bytes": torch.cuda.max_memory_reserved(device),
    }
