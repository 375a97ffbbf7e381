"""The four-block convolutional network of few-shot image classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from binomctl.errors import ConfigError
from binomctl.options import option

BLOCKS = 4


@dataclass(frozen=True)
class Conv4:
    """Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max-pool, then a linear layer.

    Vinyals et al. 2016, Finn et al. 2017. Image size and channels come from the data set.
    """

    filters: int = option(32, "channels of every convolution")
    batch_norm: Literal["batch", "none"] = option(
        "batch",
        "batch: statistics of the batch at hand, at test too (transductive); none: left out",
    )

    def __post_init__(self) -> None:
        if self.filters < 1:
            raise ConfigError(f"filters = {self.filters} must be at least 1")

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Sequential:
        """The module, images [N, channels, height, width] -> logits [N, out_dim].

        Raises:
            ConfigError: in_shape is not an image, or too small for four poolings.
        """
        if len(in_shape) != 3:
            raise ConfigError(
                f"conv4 needs images [channels, height, width], not {list(in_shape)}",
                "Use model.name=mlp for vectors.",
                key="model.name",
            )
        channels, height, width = in_shape
        if min(height, width) < 2**BLOCKS:
            raise ConfigError(
                f"images of {height}x{width} are too small for {BLOCKS} poolings",
                f"Use images of at least {2**BLOCKS}x{2**BLOCKS}.",
                key="model.name",
            )
        layers: list[nn.Module] = []
        for _ in range(BLOCKS):
            layers.append(nn.Conv2d(channels, self.filters, 3, padding=1))
            if self.batch_norm == "batch":
                layers.append(nn.BatchNorm2d(self.filters, track_running_stats=False))
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            channels = self.filters
            height, width = height // 2, width // 2
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, out_dim))
