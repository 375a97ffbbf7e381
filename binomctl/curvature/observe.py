"""What a network's forward does besides mapping inputs to outputs, seen by running it."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from binomctl.curvature.network import Inputs, Network
from binomctl.curvature.supported import in_words
from binomctl.errors import ConfigError


@dataclass(frozen=True)
class Observed:
    """One forward pass of a network at the model's parameters.

    output: what it returned. hidden: what changes gradients and no trace of the forward shows, in
    words; empty for most networks.
    """

    output: Any
    hidden: tuple[str, ...]


def observe(network: Network, x: Inputs) -> Observed:
    """Run a network on one task's inputs and look at what it does.

    Raises:
        ConfigError: it draws at random, it checkpoints reentrantly, its output depends on a
            state that it changes itself, or
            a part of it holds the user's module in a way that could not be followed.
    """
    module, name = network.module, type(network.module).__name__
    leaves = network.layout.unflatten(network.parameters())
    leaves = {n: p.detach().requires_grad_() for n, p in leaves.items()}
    states = _random_states(network)
    watch = _Watch()
    try:
        with torch.enable_grad(), in_words(module), network.holding(leaves), _warnings() as warned:
            before = [get() for get, _ in states]
            with watch:
                one = network.forward(x)
            after = [get() for get, _ in states]
            drawn = not all(map(_equal, before, after))
            changed = network.changes()
            two = network.forward(x)
        again = None
        if not _close(one, two) and changed:
            with torch.enable_grad(), in_words(module), network.holding(leaves):
                again = network.forward(x)
    finally:
        for (_, put_back), state in zip(states, before, strict=True):
            put_back(state)
    if again is not None and _close(one, again) and not drawn:
        raise ConfigError(
            f"the output of {name} depends on {', '.join(changed[:3])}, which its own forward"
            " changes: H_k would belong to another loss than the step it corrects",
            "Put the model into eval mode, or compute it from the batch at hand.",
        )
    if not _close(one, two) or drawn:
        said = "draws from a random generator in forward"
        if not _close(one, two):
            said = "gives two answers for one input: it draws at random (dropout, say)"
        raise ConfigError(
            f"{name} {said}, so H_k would belong to another loss than the step it corrects",
            "Put the model into eval mode, or set its dropout to 0.",
        )
    hidden = list(dict.fromkeys(watch.seen))
    for path, part in module.named_modules():
        if any(getattr(part, hooks) for hooks in _HOOKS):
            hidden.append(f"{type(part).__name__} at '{path or name}' has hooks")
    outputs = [leaf for leaf in tree_leaves(one) if isinstance(leaf, Tensor)]
    check_inside(network, outputs, name)
    # Without inputs that need gradients reentrant checkpointing drops its node, and warns.
    checkpointed = any("None of the inputs have requires_grad" in str(w.message) for w in warned)
    for node in graph(outputs):
        checkpointed = checkpointed or type(node).__name__ == "CheckpointFunctionBackward"
        if hasattr(type(node), "_forward_cls"):
            function = type(node).__name__.removesuffix("Backward")
            hidden.append(f"{function}, an autograd function of its own")
    if checkpointed:
        raise ConfigError(
            f"{name} uses gradient checkpointing of the reentrant kind, which has no gradient with"
            " respect to given parameters, let alone a second one",
            "Call torch.utils.checkpoint.checkpoint(..., use_reentrant=False) in its forward.",
        )
    return Observed(one, tuple(hidden))


def check_inside(network: Network, values: list[Tensor], what: str) -> None:
    """Refuse values that depend on parameters other than those handed in: the user's own."""
    for node in graph(values):
        if id(getattr(node, "variable", None)) in network.outside:
            raise ConfigError(
                f"{what} uses parameters of {type(network.module).__name__} itself, not those that"
                " the inner loop adapts",
                "A loss gets them as its third argument, loss(prediction, y, parameters); a"
                " forward should reach them through self.",
            )


def graph(values: list[Tensor]) -> Iterator[Any]:
    """Every node of the autograd graph behind some tensors."""
    left: list[Any] = [v.grad_fn for v in values if v.grad_fn is not None]
    seen = set[Any]()
    left += [_Leaf(v) for v in values if v.grad_fn is None and v.requires_grad]
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        left += [n for n, _ in node.next_functions if n is not None]


@dataclass(frozen=True, eq=False)
class _Leaf:
    variable: Tensor
    next_functions: tuple[Any, ...] = ()


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SEEN = {
    "_set_grad_enabled": "gradients are switched on or off inside forward",
    "detach": "values are detached inside forward",
    "detach_": "values are detached inside forward",
    "register_hook": "a tensor has a hook",
    "requires_grad_": "requires_grad is set inside forward",
    "grad": "gradients are taken inside forward",
}


class _Watch(TorchFunctionMode):
    """Notes the operations that change gradients but no outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = _SEEN.get(getattr(func, "__name__", ""))
        if found:
            self.seen.append(found)
        return func(*args, **(kwargs or {}))


@contextmanager
def _warnings() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield warned


State = tuple[Callable[[], Any], Callable[[Any], Any]]


def _random_states(network: Network) -> list[State]:
    """How to read and set every generator that a forward may draw from."""
    states: list[State] = [
        (torch.get_rng_state, torch.set_rng_state),
        (random.getstate, random.setstate),
    ]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        states.append((lambda: numpy.random.get_state()[1:3], lambda state: None))
    device = network.parameters().device
    if device.type == "cuda":
        states.append(
            (
                lambda: torch.cuda.get_rng_state(device),
                lambda s: torch.cuda.set_rng_state(s, device),
            )
        )
    states += [(g.get_state, g.set_state) for g in network.generators]
    return states


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, two)
    if isinstance(one, tuple) and len(one) == 2 and hasattr(one[0], "all"):
        return bool((one[0] == two[0]).all()) and one[1] == two[1]
    return bool(one == two)


def _close(one: Any, two: Any) -> bool:
    pairs = list(zip(tree_leaves(one), tree_leaves(two), strict=False))
    return all(
        a.shape == b.shape and torch.allclose(a, b, equal_nan=True)
        for a, b in pairs
        if isinstance(a, Tensor) and isinstance(b, Tensor)
    )
