"""binomctl: train, evaluate, measure and compare meta-gradient estimators."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from binomctl.api import MetaGradient, MetaGradients, meta_gradient
    from binomctl.bilevel import Hypergradient, hypergradient
    from binomctl.learner.learner import load
    from binomctl.models.imported import model

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


def __getattr__(name: str) -> Any:
    """Import the library's door on first use: `binomctl --help` must not wait for torch."""
    if name in _DOORS:
        return getattr(import_module(f"binomctl.{_DOORS[name]}"), name)
    raise AttributeError(f"module 'binomctl' has no attribute '{name}'")
