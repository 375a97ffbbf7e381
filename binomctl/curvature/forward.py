"""The network of an engine as a plain function of theta, for whoever starts tasks by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from binomctl.curvature.network import Inputs, Network
from binomctl.errors import ConfigError, unknown


class PlainForward:
    """`binomctl.contracts.Forward` of a network.

    Args:
        buffers: that batch norm normalises with, by name; none where it takes the batch's own.
    """

    def __init__(self, network: Network, buffers: Mapping[str, Tensor] | None = None) -> None:
        self._network, self._buffers = network, buffers or {}

    def __call__(self, theta: Tensor, x: Inputs) -> Any:
        with self.holding(theta):
            return self._network.forward(x)

    def entering(self, layer: str, theta: Tensor, x: Inputs) -> Tensor:
        """What enters a layer.

        Raises:
            ConfigError: no layer of that name, or one that the network does not call.
        """
        layers = dict(self._network.module.named_modules())
        if layer not in layers:
            raise ConfigError(unknown("layer", layer, [name for name in layers if name]))
        seen: list[Tensor] = []
        with self.holding(theta):
            hook = layers[layer].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            try:
                self._network.forward(x)
            finally:
                hook.remove()
        if not seen:
            raise ConfigError(f"the network does not call its layer '{layer}'")
        return seen[-1]

    @contextmanager
    def holding(self, theta: Tensor) -> Iterator[None]:
        """The network holds theta inside the block, where a backward pass may need it again."""
        with self._network.holding(self._network.layout.unflatten(theta), self._buffers):
            yield
