"""The multilayer perceptron of the sinusoid experiments."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from binomctl.errors import ConfigError
from binomctl.options import option


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron with ReLU, 1-40-40-1 on the sinusoid (Finn et al. 2017)."""

    width: int = option(40, "units per hidden layer")
    depth: int = option(2, "number of hidden layers")

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least 1")

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Sequential:
        """The module, inputs [N, *in_shape] -> outputs [N, out_dim]."""
        layers: list[nn.Module] = [nn.Flatten()] if len(in_shape) > 1 else []
        width = math.prod(in_shape)
        for _ in range(self.depth):
            layers += [nn.Linear(width, self.width), nn.ReLU()]
            width = self.width
        return nn.Sequential(*layers, nn.Linear(width, out_dim))
