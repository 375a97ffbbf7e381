"""A user's own network, by dotted path.

Importing a module runs its code, so whoever calls `build_imported` has been asked to: a
configuration of a run folder passes binomctl/settings/trust.py first.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from binomctl.errors import ConfigError

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
    module_name, colon, name = target.partition(":")
    words = module_name.split(".")
    if not colon or not all(word.isidentifier() for word in (*words, name)):
        raise ConfigError(
            f"import '{target}' is not of the form package.module:Class", key="model.import"
        )
    if words[0] in sys.stdlib_module_names:  # told before its import: some act when imported
        raise ConfigError(
            f"import '{target}': {words[0]} is a part of Python, which has no networks",
            "Name a class derived from torch.nn.Module.",
            key="model.import",
        )
    module = _imported(module_name, folder or Path.cwd())
    found = getattr(module, name, None)
    if found is None:
        raise ConfigError(f"module '{module_name}' has no '{name}'", key="model.import")
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


def _imported(name: str, folder: Path) -> Any:
    """A module, the folder searched first for it alone: kept in front of the path, a file of the
    folder would stand in for whatever is imported later."""
    here, before = str(folder), list(sys.path)
    own = importlib.machinery.PathFinder.find_spec(name.partition(".")[0], [here]) is not None
    try:
        if own:
            sys.path.insert(0, here)
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"cannot import '{name}': {error}",
            "Install it, or run in the folder that holds it.",
            key="model.import",
        ) from error
    except Exception as error:
        raise ConfigError(
            f"'{name}' fails when imported: {type(error).__name__}: {error}",
            "--debug shows where.",
            key="model.import",
        ) from error
    finally:
        if own:
            sys.path.remove(here)
            if here not in before:  # for what the network imports when it is called
                sys.path.append(here)
