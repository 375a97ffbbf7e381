"""The four-block convolutional network of few-shot image classification."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import nn

from binomctl.models.adaptable import FiLM, t_layer
from binomctl.models.bayesian import bayesian
from binomctl.models.shapes import check_image
from binomctl.options import check_not_negative, option
from binomctl.ranges import check_count

BLOCKS = 4
FILM = 3  # the block whose features a context acts on


@dataclass(frozen=True)
class Conv4:
    """Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max-pool, then a linear layer.

    Vinyals et al. 2016, Finn et al. 2017. Image size and channels come from the data set.
    """

    filters: int = option(32, "channels of every convolution")
    norm: Literal["batch", "none"] = option("batch", "batch norm in every block, or none")
    affine: bool = option(True, "batch norm scales (gamma) as well as it shifts (beta)")
    downsample: Literal["pool", "pool-first", "stride"] = option(
        "pool",
        "pool: 2x2 max-pool ends a block; pool-first: it follows the convolution and keeps odd"
        " edges (Nichol et al. 2018); stride: convolutions of stride 2, no pool (Omniglot)",
    )
    init: Literal["torch", "xavier", "learn2learn"] = option(
        "torch",
        "torch: its defaults; xavier: uniform weights, zero biases (Finn et al. 2017);"
        " learn2learn: xavier, and gamma from U(0, 1), as its CNN4",
    )

    context: int = option(0, "entries of a context that scales and shifts the third block's"
                          " features (FiLM), which alone adapts (CAVIA); 0: none")  # fmt: skip
    t_layers: bool = option(
        False, "T-net: a 1x1 convolution, the identity at first, after each convolution"
    )

    bayesian: int = option(
        0, "draws of a mean and standard deviation that every weight has (iBaML); 0: plain weights"
    )
    std: float = option(0.02, "standard deviation of every weight at first, where bayesian")

    def __post_init__(self) -> None:
        check_not_negative(self, "context", key="model")
        check_count("filters", self.filters, "model.filters")

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Module:
        """The module, images [N, channels, height, width] -> logits [N, out_dim].

        Raises:
            ConfigError: in_shape is not an image, or too small for four poolings.
        """
        channels = check_image("conv4", in_shape, least=2**BLOCKS)
        _, height, width = in_shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        strided = self.downsample == "stride"
        first = self.downsample == "pool-first"
        for i in range(1, BLOCKS + 1):
            layers[f"conv{i}"] = nn.Conv2d(
                channels, self.filters, 3, padding=1, stride=2 if strided else 1
            )
            if self.t_layers:
                square = nn.Conv2d(self.filters, self.filters, 1, bias=False)
                layers[f"t{i}"] = t_layer(square)
            if first:
                layers[f"pool{i}"] = nn.MaxPool2d(2, ceil_mode=True)
            if self.norm == "batch":
                layers[f"norm{i}"] = self._norm()
            if self.context and i == FILM:
                layers["film"] = FiLM(self.context, self.filters)
            layers[f"relu{i}"] = nn.ReLU()
            if self.downsample == "pool":
                layers[f"pool{i}"] = nn.MaxPool2d(2)
            channels = self.filters
            up = 0 if self.downsample == "pool" else 1  # the others keep odd edges
            height, width = (height + up) // 2, (width + up) // 2
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(channels * height * width, out_dim)
        self._initialise(layers)
        return bayesian(nn.Sequential(layers), self.bayesian, self.std)

    def _norm(self) -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(self.filters, track_running_stats=False)
        if not self.affine:
            # A constant gamma: torch's double backward of batch norm wants a tensor, not None.
            ones = norm.weight.detach().clone()
            del norm.weight
            norm.register_buffer("weight", ones)
        return norm

    def _initialise(self, layers: OrderedDict[str, nn.Module]) -> None:
        if self.init == "torch":
            return
        for layer in layers.values():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm2d) and self.init == "learn2learn" and self.affine:
                nn.init.uniform_(layer.weight)
