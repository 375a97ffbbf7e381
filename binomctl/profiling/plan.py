"""Which estimator, order and schedule fit a budget: predicted from a few small measurements."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from binomctl.contracts import ExactAtOrder, Expands
from binomctl.curvature.traits import traits_of
from binomctl.errors import ConfigError
from binomctl.options import describe_options
from binomctl.problem.cases import Case
from binomctl.problem.engines import with_schedule
from binomctl.problem.record import Problem
from binomctl.profiling.costs import Linear, Memory, Model
from binomctl.profiling.measure import Measured, measured_memory, prepare
from binomctl.profiling.observed import counted, timed_step
from binomctl.settings import registry
from binomctl.words import number_of

STEPS = 5
SAME_ERROR = 1e-4  # relative: float32 noise of the exact meta-gradient and of its equals


@dataclass(frozen=True)
class Choice:
    """A cell under a schedule, with what is predicted of it.

    error: the relative error of its meta-gradient that is expected; None: not known. same: labels
    of others that take the very same step.
    """

    cell: Case
    memory: Memory
    chunk: int
    products: int
    exact: bool
    seconds: float
    bytes: float
    error: float | None = None
    same: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[float, float, int]:
        """Lower is better: the expected error, then time, then the fewer options."""
        error = math.inf if self.error is None else self.error
        return (0.0 if error < SAME_ERROR else error), self.seconds, len(self.cell.options)

    def takes_the_step_of(self, other: Choice) -> bool:
        """Whether the two are one estimate under two names: as many products, the same error."""
        if self.error is None or other.error is None:
            return False
        near = abs(self.error - other.error) < SAME_ERROR * max(1.0, self.error)
        return near and self.products == other.products


def fit(base: Problem, say: Callable[[str], None] = lambda text: None) -> Model:
    """Three measurements of time and three of memory, all at the problem's own K and B."""
    B, K = base.config.training.meta_batch, base.config.adaptation.K
    batch = base.training_batch(range(1))
    support, query = batch.y_trn.shape[1], batch.y_val.shape[1]
    exact, first = expansion_of(K, K), expansion_of(0, K)
    parts: dict[int, dict[str, float]] = {}
    for chunk in dict.fromkeys((B, 1)):
        say(f"fitting: time of an exact step, {number_of(chunk, 'task')} at a time")
        parts[chunk] = _phases(scheduled(base, exact, "store", chunk))
    say("fitting: memory")
    small = [_bytes(scheduled(base, first, "store", chunk)) for chunk in (1, B)]
    Q = max(0.0, (small[1] - small[0]) / (B - 1)) if B > 1 else small[0]
    constant = max(0.0, small[0] - Q)
    stored = max(0.0, _bytes(scheduled(base, exact, "store", 1)) - constant - Q) / (B * K)
    whole, single = parts[B], parts[1]

    def linear(phase: str, count: int) -> Linear:
        return Linear.through(whole[phase] / count, single[phase] / count, B)

    return Model(
        linear("adaptation", K), linear("query", 1), linear("meta_gradient", K),
        whole["data"] + whole["outer"], constant, Q, stored, support / query,
    )  # fmt: skip


def expansion_of(L: int, K: int) -> Case:
    """A registered estimator that is the expansion of order L over all K steps, for L = 0 or K;
    the one with fewest options.

    Raises:
        ConfigError: none is registered.
    """
    found = []
    for name in registry.names("estimator"):
        try:
            cls: Any = registry.load("estimator", name)
            exact = L == K and issubclass(cls, ExactAtOrder)
            estimator = cls.exact(K) if exact else registry.create("estimator", name, {})
        except ConfigError:  # a broken plugin, or one that asks for options
            continue
        which = estimator.expansion(K, 1.0) if isinstance(estimator, Expands) else None
        if which is not None and (which.L, which.C) == (L, K):
            found.append(Case(name, estimator, _chosen(estimator)))
    if not found:
        raise ConfigError(f"no registered estimator is the expansion of order {L}")
    return min(found, key=lambda case: len(describe_options(type(case.estimator))))


def choices(
    base: Problem,
    cells: Sequence[Case],
    model: Model,
    errors: Mapping[str, float] = MappingProxyType({}),
) -> list[Choice]:
    """Every cell under every schedule, with predictions.

    Args:
        errors: expected of the meta-gradient, relative, by the label of a cell.
    """
    config = base.config
    B, K = config.training.meta_batch, config.adaptation.K
    chunks = [B]  # autograd knows no chunks
    if traits_of(base.engine).chunks:
        chunks = sorted({c for c in (1, 2, 4, 8, 16, 32, B) if c <= B}, reverse=True)
    out = []
    for cell in cells:
        seen = counted(cell.problem(base), None)
        steps = cell.estimator.steps(K)
        outside = len([k for k in seen.points if k >= K])  # behind the inner loop: made anew
        for memory in ("store", "recompute") if len(steps) else ("store",):
            anew = outside if memory == "store" else seen.linearisations
            for chunk in chunks:
                out.append(
                    Choice(
                        cell,
                        memory,
                        chunk,
                        seen.products,
                        _exact(cell, K),
                        model.seconds(K, seen.products, anew, -(-B // chunk)),
                        model.bytes(B, len(steps), chunk, memory, seen.together),
                        errors.get(cell.label),
                    )
                )
    return out


def best(found: Sequence[Choice], bytes_at_most: float, seconds_at_most: float) -> list[Choice]:
    """The fastest schedule that fits, for every cell that has one; the least expected error first,
    cells that take the very same step under the name with the fewest options."""
    fitting = [c for c in found if c.bytes <= bytes_at_most and c.seconds <= seconds_at_most]
    quickest: dict[str, Choice] = {}
    for choice in fitting:
        other = quickest.get(choice.cell.label)
        # Times within 2% are the same prediction: the one that needs less memory then.
        if other is None or (
            (choice.seconds, choice.bytes) < (other.seconds, other.bytes)
            if abs(choice.seconds - other.seconds) > 0.02 * other.seconds
            else choice.bytes < other.bytes
        ):
            quickest[choice.cell.label] = choice
    out: list[Choice] = []
    for choice in sorted(quickest.values(), key=lambda c: (not c.exact, len(c.cell.options))):
        i = next((i for i, kept in enumerate(out) if kept.takes_the_step_of(choice)), None)
        if i is None:
            out.append(choice)
        else:
            out[i] = dataclasses.replace(out[i], same=(*out[i].same, choice.cell.label))
    return sorted(out, key=lambda c: c.rank)


def check(base: Problem, choice: Choice) -> dict[str, Any]:
    """A choice measured: seconds and bytes beside what was predicted, and their ratios."""
    one = scheduled(base, choice.cell, choice.memory, choice.chunk)
    seconds, size = sum(_phases(one, 2 * STEPS).values()), _bytes(one)
    return {
        "predicted": {"seconds": choice.seconds, "bytes": round(choice.bytes)},
        "measured": {"seconds": seconds, "bytes": size},
        "predicted_over_measured": {
            "seconds": round(choice.seconds / seconds, 3),
            "bytes": round(choice.bytes / size, 3) if size else None,
        },
    }


def scheduled(base: Problem, cell: Case, memory: Memory, chunk: int) -> Measured:
    """A cell on the problem with its engine under another schedule."""
    changes = {"memory": memory, "task_chunk": chunk, "compile": "off", "capture": "off"}
    (one,) = prepare(with_schedule(base, **changes), [cell])
    return one


def _phases(one: Measured, steps: int = STEPS) -> dict[str, float]:
    """Median seconds by phase; the first step is not counted."""
    B = one.problem.config.training.meta_batch
    rows = [
        timed_step(one.problem, one.state, range(i * B, (i + 1) * B), None)
        for i in range(steps + 1)
    ][1:]
    return {name: statistics.median(r[name] for r in rows) / 1e3 for name in rows[0]}


def _bytes(one: Measured) -> int:
    measured_memory(one)
    size: int = one.memory["bytes"]
    return size


def _chosen(estimator: Any) -> dict[str, Any]:
    """The options of an estimator that are not its defaults."""
    fields = dataclasses.fields(estimator)
    return {f.name: v for f in fields if (v := getattr(estimator, f.name)) != f.default}


def _exact(cell: Case, K: int) -> bool:
    if not isinstance(cell.estimator, Expands):
        return False
    which = cell.estimator.expansion(K, 1.0)
    return which.L == which.C == K


def tight(found: Sequence[Choice]) -> Iterator[str]:
    """What comes nearest, in words, where nothing fits."""
    for what, key in (("memory", "bytes"), ("time", "seconds")):
        least = min(found, key=lambda c, key=key: getattr(c, key))  # type: ignore[misc]
        yield (
            f"least {what}: {least.cell.label}, {least.memory},"
            f" {number_of(least.chunk, 'task')} at a time: {least.bytes / 2**20:.0f} MiB,"
            f" {1e3 * least.seconds:.3g} ms"
        )
