"""Networks of sines, for signals as functions of the place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from binomctl.options import option
from binomctl.ranges import check_count, check_positive


class Sine(nn.Module):
    """sin(omega x)."""

    def __init__(self, omega: float) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * x)


@dataclass(frozen=True)
class SIREN:
    """A multilayer perceptron with sines, initialised as Sitzmann et al. 2020 have it."""

    width: int = option(64, "units per hidden layer")
    depth: int = option(3, "number of hidden layers")
    omega: float = option(30.0, "frequency that each layer's sine multiplies by")

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            check_count(name, getattr(self, name), f"model.{name}")
        check_positive("omega", self.omega, "model.omega")

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Sequential:
        """The module, inputs [N, *in_shape] -> outputs [N, out_dim]."""
        sizes = [math.prod(in_shape), *[self.width] * self.depth, out_dim]
        layers: list[nn.Module] = [nn.Flatten()] if len(in_shape) > 1 else []
        for i in range(len(sizes) - 1):
            linear = nn.Linear(sizes[i], sizes[i + 1])
            bound = 1 / sizes[i] if i == 0 else math.sqrt(6 / sizes[i]) / self.omega
            nn.init.uniform_(linear.weight, -bound, bound)
            layers.append(linear)
            if i < self.depth:
                layers.append(Sine(self.omega))
        return nn.Sequential(*layers)
