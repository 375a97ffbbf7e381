"""ResNet-12, the residual network of few-shot image classification."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.errors import ConfigError
from binomctl.models.shapes import check_image
from binomctl.options import option


@dataclass(frozen=True)
class ResNet12:
    """Four residual stages of three 3x3 convolutions, then a linear layer (Lee et al. 2019).

    Batch norm takes the statistics of the batch at hand; the dropout and DropBlock of its authors
    are left out, since an inner loop cannot differentiate through a mask drawn anew at every step.
    """

    filters: tuple[int, ...] = option(
        (64, 160, 320, 640), "channels of the four stages; Oreshkin et al. 2018: 64, 128, 256, 512"
    )

    def __post_init__(self) -> None:
        if len(self.filters) != 4 or min(self.filters) < 1:
            raise ConfigError(f"filters = {list(self.filters)} must be four positive numbers")

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Sequential:
        """The module, images [N, channels, height, width] -> logits [N, out_dim].

        Raises:
            ConfigError: in_shape is not an image, or too small for four poolings.
        """
        channels = check_image("resnet12", in_shape, least=16)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, filters in enumerate(self.filters, 1):
            layers[f"stage{i}"] = Stage(channels, filters)
            channels = filters
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(channels, out_dim)
        model = nn.Sequential(layers)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
        return model


class Stage(nn.Module):
    """conv, norm, leaky ReLU; the same; conv, norm; plus the shortcut; leaky ReLU; 2x2 pool."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.arguments = (channels, filters)
        sizes = [channels, filters, filters]
        self.convs = nn.ModuleList(nn.Conv2d(c, filters, 3, padding=1, bias=False) for c in sizes)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(filters, track_running_stats=False) for _ in sizes
        )
        self.shortcut = nn.Conv2d(channels, filters, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(filters, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = norm(conv(out))
            if i < 2:
                out = F.leaky_relu(out, 0.1)
        out = F.leaky_relu(out + self.shortcut_norm(self.shortcut(x)), 0.1)
        return F.max_pool2d(out, 2)
