"""A user's own network, by dotted path."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from binomctl.errors import ConfigError


def build_imported(
    target: str, options: Mapping[str, Any], in_shape: tuple[int, ...], out_dim: int
) -> nn.Module:
    """Call "package.module:Class" with its options; in_shape and out_dim where it takes them.

    The working folder is searched too, as by `python -m`.

    Raises:
        ConfigError: no such module or class, options it does not take, or not an nn.Module.
    """
    factory = _find(target)
    given = dict(options)
    known = inspect.signature(factory).parameters
    for name, value in (("in_shape", in_shape), ("out_dim", out_dim)):
        if name in known:
            given.setdefault(name, value)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"{target} does not take these options: {error}",
            f"Its signature is {inspect.signature(factory)}.",
            key="model.import",
        ) from error
    try:
        model = factory(**given)
    except Exception as error:
        raise ConfigError(
            f"{target} fails: {type(error).__name__}: {error}", key="model.import"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"{target} gives {type(model).__name__}, not a torch.nn.Module", key="model.import"
        )
    return model


def _find(target: str) -> Callable[..., Any]:
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(
            f"import '{target}' is not of the form package.module:Class", key="model.import"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"cannot import '{module_name}': {error}",
            "Install it, or run in the folder that holds it.",
            key="model.import",
        ) from error
    except Exception as error:
        raise ConfigError(
            f"'{module_name}' fails when imported: {type(error).__name__}: {error}",
            "--debug shows where.",
            key="model.import",
        ) from error
    factory: Callable[..., Any] | None = getattr(module, name, None)
    if factory is None:
        raise ConfigError(f"module '{module_name}' has no '{name}'", key="model.import")
    if not callable(factory):
        raise ConfigError(f"{target} is {type(factory).__name__}, no class", key="model.import")
    return factory
