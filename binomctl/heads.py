"""Which of a network's parameters its output is computed with: the head, wherever it stands."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from binomctl.contracts import Rule, WantsHead
from binomctl.flat import trainable


def with_head(rule: Rule, model: nn.Module, inputs: Callable[[], Any]) -> Rule:
    """The rule with the network's head, where it asks for one and nobody named it.

    Args:
        inputs: gives those of one task, as `head_of` takes them.
    """
    if not isinstance(rule, WantsHead) or rule.head is not None:
        return rule
    names = head_of(model, inputs())
    return rule.with_head(names) if names else rule


def head_of(model: nn.Module, inputs: Any) -> tuple[str, ...]:
    """The names of the parameters of the layer whose product the output is: of the parameters with
    two axes or more, the one that fewest operations of the backward pass lie before, and those
    that belong to its module; () where the output depends on none.

    The model itself is not called: its copy is.

    Args:
        inputs: [N, ...], a tuple of them, or a dict of those taken by keyword.
    """
    network = copy.deepcopy(model)
    with torch.enable_grad():
        if isinstance(inputs, dict):
            output = network(**inputs)
        else:
            output = network(*inputs) if isinstance(inputs, tuple) else network(inputs)
    names = {id(p): name for name, p in trainable(network)}
    roots = [t.grad_fn for t in tree_leaves(output) if isinstance(t, Tensor) and t.grad_fn]
    waiting, seen = deque(roots), set(roots)
    while waiting:
        node = waiting.popleft()
        variable = getattr(node, "variable", None)
        if variable is not None and variable.dim() > 1 and id(variable) in names:
            return _beside(names[id(variable)], list(names.values()))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return ()


def _beside(name: str, names: list[str]) -> tuple[str, ...]:
    """The parameters of one module: parametrised ones (weight_norm) belong to the module itself."""
    module = name.partition(".parametrizations.")[0]
    module = module if module != name else name.rpartition(".")[0]
    if not module:
        return (name,)
    return tuple(n for n in names if n.startswith(f"{module}."))
