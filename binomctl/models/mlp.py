"""The multilayer perceptron of the sinusoid experiments."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from binomctl.models.adaptable import Context, t_layer
from binomctl.models.bayesian import bayesian
from binomctl.options import check_not_negative, option
from binomctl.ranges import check_count


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron with ReLU, 1-40-40-1 on the sinusoid (Finn et al. 2017)."""

    width: int = option(40, "units per hidden layer")
    depth: int = option(2, "number of hidden layers")
    context: int = option(
        0, "entries of a context beside the inputs, which alone adapts (CAVIA); 0: none"
    )
    t_layers: bool = option(False, "T-net: a linear map, the identity at first, after each layer")

    bayesian: int = option(
        0, "draws of a mean and standard deviation that every weight has (iBaML); 0: plain weights"
    )
    std: float = option(0.02, "standard deviation of every weight at first, where bayesian")

    def __post_init__(self) -> None:
        check_not_negative(self, "context", key="model")
        for name in ("width", "depth"):
            check_count(name, getattr(self, name), f"model.{name}")

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Module:
        """The module, inputs [N, *in_shape] -> outputs [N, out_dim]."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()

        def add(layer: nn.Module, name: str = "") -> None:
            layers[name or str(len(layers) - sum(n in named for n in layers))] = layer

        named = {"context", *(f"t{i}" for i in range(self.depth))}
        if len(in_shape) > 1:
            add(nn.Flatten())
        width = math.prod(in_shape)
        if self.context:
            add(Context(self.context), "context")
            width += self.context
        for i in range(self.depth):
            add(nn.Linear(width, self.width))
            width = self.width
            if self.t_layers:
                add(t_layer(nn.Linear(width, width, bias=False)), f"t{i}")
            add(nn.ReLU())
        add(nn.Linear(width, out_dim))
        return bayesian(nn.Sequential(layers), self.bayesian, self.std)
