"""Whether a plugin has an ability: the members of a protocol."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from inspect import get_annotations
from typing import TypeGuard, TypeVar, cast

import torch

A = TypeVar("A")


def has(plugin: object, ability: type[A]) -> TypeGuard[A]:
    """What isinstance says of a runtime protocol, which takes microseconds for it before Python
    3.12; a meta-step of a small network asks twenty times."""
    if torch.compiler.is_compiling():  # which follows isinstance, and not this
        return isinstance(plugin, ability)
    return all(hasattr(plugin, name) for name in members(cast("Hashable", ability)))


@cache
def members(protocol: Hashable) -> tuple[str, ...]:
    """The names that a protocol asks for, its bases' among them, sorted."""
    assert isinstance(protocol, type)
    protocols = (base for base in protocol.__mro__ if getattr(base, "_is_protocol", False))
    names = (vars(base).keys() | get_annotations(base).keys() for base in protocols)
    return tuple(sorted(n for n in set().union(*names) if not n.startswith("_")))
