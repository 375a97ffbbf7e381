"""What an engine says of itself, for whoever must treat engines differently."""

from __future__ import annotations

from dataclasses import dataclass

from binomctl.contracts import Engine


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
