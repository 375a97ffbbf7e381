"""What a module's forward pass does, call by call, recorded while it runs on one task's inputs.

Every torch function that it calls is seen, whatever Python surrounds it; sizes are plain numbers,
so that a recording holds for inputs of one shape. What a recording would lose (a decision on a
value, a change of state, a part without gradient) is refused.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn

from binomctl.curvature.analytic.calls import Trace
from binomctl.curvature.analytic.recorder import Recorder
from binomctl.curvature.analytic.refused import Unsupported, check_modules, snapshot


def trace(model: nn.Module, x: Tensor, names: dict[int, str], known: frozenset[str]) -> Trace:
    """The calls of model(x).

    Args:
        names: of the trainable parameters, by id.
        known: Python functions that are recorded whole; others are recorded by what they call.

    Raises:
        Unsupported: what the forward pass does cannot be recorded, and where.
    """
    check_modules(model)
    before = snapshot(model)
    drawn = _random_states(x)
    recorder = Recorder(model, names, known)
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone()
        if leaf.is_floating_point():  # whatever comes of it then has a graph to be known by
            leaf = leaf.requires_grad_().clone()
        recorder.start(leaf)
        try:
            with recorder:
                output = model(leaf)
        except Unsupported:
            raise
        except Exception as error:  # anything a forward may do
            if not recorder.refused:
                raise Unsupported(
                    f"{type(model).__name__} cannot be traced: {type(error).__name__}: {error}"
                ) from error
        finally:
            changed = before.restore()
    if recorder.refused:
        raise Unsupported(recorder.refused[0])
    if changed:
        raise Unsupported(f"the forward pass changes {changed[0]}")
    if not _same_states(drawn, _random_states(x)):
        raise Unsupported(f"{type(model).__name__} draws at random")
    if not isinstance(output, Tensor):
        raise Unsupported(f"the output is {type(output).__name__}, not one tensor")
    return Trace(recorder.calls, recorder.ref(output))


def _random_states(x: Tensor) -> list[Any]:
    states: list[Any] = [torch.get_rng_state(), random.getstate()]
    return [*states, torch.cuda.get_rng_state(x.device)] if x.is_cuda else states


def _same_states(one: list[Any], two: list[Any]) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(one, two, strict=True)
    )
