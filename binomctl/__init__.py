"""binomctl: train, evaluate, measure and compare meta-gradient estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from binomctl.api import MetaGradient, MetaGradients, meta_gradient

__all__ = ["MetaGradient", "MetaGradients", "meta_gradient"]


def __getattr__(name: str) -> Any:
    """Import the library's door on first use: `binomctl --help` must not wait for torch."""
    if name in __all__:
        from binomctl import api

        return getattr(api, name)
    raise AttributeError(f"module 'binomctl' has no attribute '{name}'")
