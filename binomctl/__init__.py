"""binomctl: train, evaluate, measure and compare meta-gradient estimators."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from binomctl.api import MetaGradient, MetaGradients, meta_gradient
    from binomctl.bilevel import Hypergradient, hypergradient
    from binomctl.learner.learner import load
    from binomctl.models.imported import model

    __version__: str

_DOORS = {
    "Hypergradient": "bilevel",
    "MetaGradient": "api",
    "MetaGradients": "api",
    "hypergradient": "bilevel",
    "load": "learner.learner",
    "meta_gradient": "api",
    "model": "models.imported",
}
__all__ = [
    "Hypergradient",
    "MetaGradient",
    "MetaGradients",
    "hypergradient",
    "load",
    "meta_gradient",
    "model",
]


def __dir__() -> list[str]:
    """The doors, which are imported on first use, and the packages that are imported already."""
    packages = {name for name, value in globals().items() if isinstance(value, ModuleType)}
    dunders = {name for name in globals() if name.startswith("__")}
    return sorted({*_DOORS, "__version__", *packages, *dunders})


def __getattr__(name: str) -> Any:
    """Import the library's door on first use: `binomctl --help` must not wait for torch."""
    if name in _DOORS:
        return getattr(import_module(f"binomctl.{_DOORS[name]}"), name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'binomctl' has no attribute '{name}'")


def _version() -> str:
    """Of the installed distribution; AttributeError where none is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("binomctl")
    except PackageNotFoundError as error:
        raise AttributeError("binomctl has no version: it is not installed") from error
