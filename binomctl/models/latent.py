"""A classifier decoded from a latent code (LEO, Rusu et al. 2019)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.errors import ConfigError
from binomctl.models.conv4 import Conv4
from binomctl.options import option
from binomctl.ranges import check_count


class Decoded(nn.Module):
    """A linear classifier whose weights a latent code z [classes, latent] decodes to.

    Row c of the weights is mean(z_c) + spread exp(s(z_c)) noise_c + offset_c, (mean, s) one linear
    map of z_c. z, noise and offset [classes, features] belong to a task: LEO's rule starts
    them, and adapts z first, then the offset, which moves the weights themselves.
    """

    def __init__(self, features: int, classes: int, latent: int, spread: float) -> None:
        super().__init__()
        self.spread = spread
        self.z = nn.Parameter(torch.zeros(classes, latent))
        self.noise = nn.Parameter(torch.zeros(classes, features))
        self.offset = nn.Parameter(torch.zeros(classes, features))
        self.decoder = nn.Linear(latent, 2 * features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, features] -> logits [N, classes]."""
        mean, log = self.decoder(self.z).chunk(2, 1)
        weights = mean + self.spread * log.exp() * self.noise + self.offset
        return F.linear(x, weights)


@dataclass(frozen=True)
class Latent:
    """A classifier decoded from a latent code, on embeddings or on Conv4's features.

    The network of latent embedding optimisation (LEO, Rusu et al. 2019); it wants LEO's rule.
    """

    body: Literal["none", "conv4"] = option("none", "none: the inputs are features; conv4")
    filters: int = option(32, "channels of Conv4's convolutions, body=conv4")
    latent: int = option(64, "entries of a class's latent code")
    spread: float = option(0.1, "standard deviation of decoded weights before meta-training")

    def __post_init__(self) -> None:
        for name in ("filters", "latent"):
            check_count(name, getattr(self, name), f"model.{name}")

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Sequential:
        """The module, inputs [N, *in_shape] -> logits [N, out_dim]."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if self.body == "conv4":
            layers.update(Conv4(filters=self.filters).build(in_shape, out_dim).named_children())
            last = layers["head"]
            assert isinstance(last, nn.Linear)
            features = last.in_features
        elif len(in_shape) == 1:
            features = in_shape[0]
        else:
            raise ConfigError(
                f"the latent model takes vectors [features], and the data are {list(in_shape)}",
                "Set model.body=conv4 to learn them.",
                key="model.body",
            )
        layers["head"] = Decoded(features, out_dim, self.latent, self.spread)
        return nn.Sequential(layers)
