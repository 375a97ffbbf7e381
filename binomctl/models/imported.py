"""A user's own network, by dotted path.

Importing a module runs its code, so whoever calls `build_imported` has been asked to: a
configuration of a run folder passes binomctl/settings/trust.py first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from binomctl import dotted
from binomctl.errors import ConfigError, nearest

F = TypeVar("F", bound=Callable[..., nn.Module])
_MARK = "__binomctl_model__"


def model(function: F) -> F:
    """Mark a function as one that makes networks, so that `model.import` may name it. Classes
    derived from torch.nn.Module need no mark; nothing else can be named."""
    setattr(function, _MARK, True)
    return function


def build_imported(
    target: str, options: Mapping[str, Any], in_shape: tuple[int, ...], out_dim: int
) -> nn.Module:
    """Make the network of "package.module:Class" with its options; in_shape and out_dim where it
    takes them.

    Raises:
        ConfigError: no such module or class, neither a class derived from nn.Module nor a function
            marked with `binomctl.model`, options it does not take.
    """
    factory = find_network(target)
    given = arguments_of(target, factory, options, in_shape, out_dim)
    try:
        made = factory(**given)
    except Exception as error:
        raise ConfigError(
            f"{target} fails: {type(error).__name__}: {error}", key="model.import"
        ) from error
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"{target} gives {type(made).__name__}, not a torch.nn.Module", key="model.import"
        )
    return made


def arguments_of(
    target: str,
    factory: Callable[..., nn.Module],
    options: Mapping[str, Any],
    in_shape: tuple[int, ...],
    out_dim: int,
) -> dict[str, Any]:
    """What a user's network is made with: its options, in_shape and out_dim where it takes them.

    Raises:
        ConfigError: it does not take them.
    """
    given = dict(options)
    try:
        signature = inspect.signature(factory)
    except ValueError as error:  # a class without one, of an extension
        raise ConfigError(
            f"{target} does not say what it takes: {error}",
            "Derive a class with an __init__ of its own from it.",
            key="model.import",
        ) from error
    for name, value in (("in_shape", in_shape), ("out_dim", out_dim)):
        if name in signature.parameters:
            given.setdefault(name, value)
    kinds = {p.kind for p in signature.parameters.values()}
    for name in options:
        if name not in signature.parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ConfigError(
                f"{target} takes no option '{name}'.{nearest(name, signature.parameters)}",
                f"Its signature is {signature}.",
                key=f"model.{name}",
            )
    try:
        signature.bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"{target} does not take these options: {error}",
            f"Its signature is {signature}.",
            key="model.import",
        ) from error
    return given


def find_network(target: str, folder: Path | None = None) -> Callable[..., nn.Module]:
    """What "package.module:Class" names, its module imported; nothing of it is called.

    folder: searched first; None: the working folder, as by `python -m`.

    Raises:
        ConfigError: as `build_imported`.
    """
    found = dotted.imported(target, folder, "model.import", "network")
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    if inspect.isfunction(found) and getattr(found, _MARK, False):
        return found
    kind = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
    raise ConfigError(
        f"{target} is no network but a {kind}: it was not called"
        if not isinstance(found, type)
        else f"{target} is {kind}, not derived from torch.nn.Module: it was not called",
        "Name a class derived from torch.nn.Module, or put @binomctl.model above a function that"
        " returns one.",
        key="model.import",
    )
