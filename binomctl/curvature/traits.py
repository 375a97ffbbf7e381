"""What an engine says of itself, for whoever must treat engines differently."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from binomctl.contracts import Engine
from binomctl.machine.op_threads import kernels_alone

FEW = 2**19
"""Numbers in the vectors of all tasks on which torch's operations take one thread a fraction of a
millisecond."""


@dataclass(frozen=True)
class Traits:
    """Of an engine.

    chunks: it takes a number of tasks that go together; convolves: in ways that can be chosen;
    steps_alone: its step needs no autograd of a network, so that torch can compile it or record it;
    closed_form: nor of the loss; native: a pass is one call of a kernel; slower: why no faster
    engine computes, in words; layers: (path, layer, way) of each, where it knows them.
    """

    chunks: bool = False
    convolves: bool = False
    steps_alone: bool = False
    closed_form: bool = False
    native: bool = False
    slower: str = ""
    layers: tuple[tuple[str, str, str], ...] = ()


def traits_of(engine: Engine) -> Traits:
    """An engine's traits; those of a plain one where it says nothing."""
    found: Traits = getattr(engine, "traits", Traits())
    return found


def threads_for(engine: Engine, tasks: int) -> AbstractContextManager[None]:
    """A context for meta-steps of so many tasks: torch's operations on one thread where native
    passes do the work and the vectors are short."""
    few = traits_of(engine).native and tasks * engine.layout.d <= FEW
    return kernels_alone() if few else nullcontext()
