"""What modules return: taken apart into tensors, and put together again over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from binomctl.errors import ConfigError


def together(outputs: list[Any]) -> Any:
    """The B tasks' outputs as one tensor where they are tensors of one shape, else the list."""
    if all(isinstance(o, Tensor) and o.shape == outputs[0].shape for o in outputs):
        return torch.stack(outputs)
    return outputs


def rows(part: Any, b: int | slice) -> Any:
    """Task b of a batch: the same structure, every tensor's row b."""
    if isinstance(part, Tensor):
        return part[b]
    return tree_map(lambda t: t[b] if isinstance(t, Tensor) else t, part)


_PLAIN = int | float | str | bool | None


class Unpacked:
    """Takes a module's output apart into tensors, all that vmap lets pass, and puts it together."""

    def tensors(self, output: Any) -> tuple[Tensor, ...]:
        self._leaves, self._spec = tree_flatten(output)
        return tuple(leaf for leaf in self._leaves if isinstance(leaf, Tensor))

    def whole(self, tensors: Sequence[Tensor]) -> Any:
        """The output with other tensors in their places."""
        left = iter(tensors)
        leaves = [next(left) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        return tree_unflatten(leaves, self._spec)

    def packed(self, tensors: Sequence[Tensor]) -> Any:
        """Of tensors [B, ...]: one tensor, or a list of the B tasks' outputs."""
        if len(tensors) == len(self._leaves) == 1 and self._spec.is_leaf():
            return tensors[0]
        if not all(isinstance(leaf, Tensor | _PLAIN) for leaf in self._leaves):
            kinds = {type(leaf).__name__ for leaf in self._leaves}
            raise ConfigError(f"outputs of type {', '.join(sorted(kinds))} cannot pass vmap")
        return [self.whole([t[b] for t in tensors]) for b in range(len(tensors[0]))]
