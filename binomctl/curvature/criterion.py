"""A loss of one task, whether or not it takes the parameters."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from binomctl.errors import ConfigError

Loss = Callable[..., Tensor]
"""loss(prediction, y), or loss(prediction, y, parameters) with the task's parameters by name."""


@dataclass(frozen=True)
class Criterion:
    """A loss that is called one way: with outputs, targets and parameters."""

    loss: Loss
    takes_parameters: bool

    @classmethod
    def of(cls, loss: Loss) -> Criterion:
        return cls(loss, takes_parameters(loss))

    @property
    def name(self) -> str:
        return getattr(self.loss, "__name__", type(self.loss).__name__)

    def __call__(self, output: Any, y: Any, parameters: Mapping[str, Tensor]) -> Tensor:
        return self.loss(output, y, parameters) if self.takes_parameters else self.loss(output, y)


def check_outside(loss: Loss, model: nn.Module) -> None:
    """Refuse a loss that reads the model itself: it would see theta where phi is meant.

    Raises:
        ConfigError: with the name by which the loss knows it.
    """
    parts = {id(m) for m in model.modules() if next(m.parameters(), None) is not None}
    for name, value in _held(loss):
        if id(value) in parts:
            raise ConfigError(
                f"the loss uses '{name}', which is (a part of) the model: it would see the model's"
                " own parameters, not those that the inner loop adapts",
                "Write loss(prediction, y, parameters), which gets them by name, and let forward"
                " return what else the loss needs.",
            )


def _held(loss: Any) -> Iterator[tuple[str, Any]]:
    """What a function closes over, or looks up, by name."""
    if isinstance(loss, types.MethodType):
        yield "self", loss.__self__
        loss = loss.__func__
    if isinstance(loss, functools.partial):
        yield from _held(loss.func)
        yield from (("an argument", value) for value in (*loss.args, *loss.keywords.values()))
    if isinstance(loss, types.FunctionType):
        seen = inspect.getclosurevars(loss)
        yield from seen.nonlocals.items()
        yield from seen.globals.items()


def takes_parameters(loss: Loss) -> bool:
    """Whether a loss has a third argument without a default, or one called `parameters`."""
    called = loss.forward if isinstance(loss, nn.Module) else loss  # __call__ says *args
    try:
        known = list(inspect.signature(called).parameters.values())
    except (TypeError, ValueError):  # a function of C says nothing
        return False
    if any(p.name == "parameters" for p in known):
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in known if p.kind in positional and p.default is p.empty]
    return len(needed) == 3
