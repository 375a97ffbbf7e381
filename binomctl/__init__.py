"""binomctl: train, evaluate, measure and compare meta-gradient estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from binomctl.api import meta_gradient

__all__ = ["meta_gradient"]


def __getattr__(name: str) -> Any:
    """Import the library's door on first use: `binomctl --help` must not wait for torch."""
    if name == "meta_gradient":
        from binomctl.api import meta_gradient

        return meta_gradient
    raise AttributeError(f"module 'binomctl' has no attribute '{name}'")
