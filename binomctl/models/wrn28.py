"""WRN-28-10, the wide residual network of few-shot image classification."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.models.shapes import check_image
from binomctl.options import option
from binomctl.ranges import check_count

BLOCKS_PER_GROUP = 4  # 28 layers = 4 + 6 * 4


@dataclass(frozen=True)
class WRN28:
    """Wide residual network of 28 layers (Zagoruyko and Komodakis 2016; Dhillon et al. 2020).

    Batch norm takes the statistics of the batch at hand; no dropout.
    """

    widen: int = option(10, "factor on the 16, 32 and 64 channels of its three groups")

    def __post_init__(self) -> None:
        check_count("widen", self.widen, "model.widen")

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Sequential:
        """The module, images [N, channels, height, width] -> logits [N, out_dim].

        Raises:
            ConfigError: in_shape is not an image, or too small.
        """
        channels = check_image("wrn28", in_shape, least=8)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["stem"] = nn.Conv2d(channels, 16, 3, padding=1)
        width = 16
        for group, (filters, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
            for i in range(BLOCKS_PER_GROUP):
                block = Block(width, filters * self.widen, stride if i == 0 else 1)
                layers[f"group{group}_{i + 1}"] = block
                width = filters * self.widen
        layers["norm"] = nn.BatchNorm2d(width, track_running_stats=False)
        layers["relu"] = nn.ReLU()
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(width, out_dim)
        model = nn.Sequential(layers)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, gain=2**0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        return model


class Block(nn.Module):
    """norm, ReLU, conv, norm, ReLU, conv, plus the shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.arguments = (channels, filters, stride)
        self.norm1 = nn.BatchNorm2d(channels, track_running_stats=False)
        self.conv1 = nn.Conv2d(channels, filters, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(filters, track_running_stats=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride=stride, padding=1)
        same = stride == 1 and channels == filters
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, filters, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.norm1(x)))
        out = self.conv2(F.relu(self.norm2(out)))
        result: Tensor = out + self.shortcut(x)
        return result
