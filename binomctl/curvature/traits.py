"""What an engine says of itself, for whoever must treat engines differently."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from binomctl.contracts import Engine
from binomctl.machine.op_threads import kernels_alone

FEW = 2**19
"""Numbers of all tasks together on which torch's operations take one thread a fraction of a
millisecond."""


@dataclass(frozen=True)
class Traits:
    """Of an engine.

    chunks: it takes a number of tasks that go together; convolves: in ways that can be chosen;
    steps_alone: its step needs no autograd of a network, so that torch can compile it or record it;
    closed_form: nor of the loss; beside: kernels of ours do what takes long, and torch's operations
    the rest, with that many of each task's parameters (None: torch's do it all); slower: why no
    faster engine computes, in words; layers: (path, layer, way) of each, where it knows them.
    """

    chunks: bool = False
    convolves: bool = False
    steps_alone: bool = False
    closed_form: bool = False
    beside: int | None = None
    slower: str = ""
    layers: tuple[tuple[str, str, str], ...] = ()


def traits_of(engine: Engine) -> Traits:
    """An engine's traits; those of a plain one where it says nothing."""
    found: Traits = getattr(engine, "traits", Traits())
    return found


def threads_for(engine: Engine, tasks: int) -> AbstractContextManager[None]:
    """A context for passes of so many tasks: torch's operations on one thread where kernels do what
    takes long.

    torch's threads spin for some milliseconds after each operation, on the cores that the kernels'
    helpers would take: on two cores Conv4's kernels then had one.
    """
    beside = traits_of(engine).beside
    return nullcontext() if beside is None or tasks * beside > FEW else kernels_alone()
