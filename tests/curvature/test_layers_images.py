"""Layers of images, lines and volumes, against double backward of the module itself."""

from __future__ import annotations

import pytest
import torch
from test_layers_known import WIDE, Do, _one_thread, agree, used, ways  # noqa: F401
from torch import nn


def images(*layers, channels=4):
    return nn.Sequential(
        nn.Conv2d(2, channels, 3, padding=1), *layers, nn.Flatten(), nn.LazyLinear(3)
    )


IMAGES = {
    "gelu": lambda: [nn.GELU()], "prelu": lambda: [nn.PReLU(4)], "mish": lambda: [nn.Mish()],
    "batch norm": lambda: [nn.BatchNorm2d(4, track_running_stats=False), nn.GELU()],
    "batch norm, eval": lambda: [used(nn.BatchNorm2d(4)), nn.ReLU(inplace=True)],
    "batch norm, plain": lambda: [used(nn.BatchNorm2d(4, affine=False))],
    "group norm": lambda: [nn.GroupNorm(2, 4), nn.ReLU()],
    "instance norm": lambda: [nn.InstanceNorm2d(4, affine=True)],
    "instance norm, plain": lambda: [nn.InstanceNorm2d(4)],
    "layer norm": lambda: [nn.LayerNorm([4, 6, 7])],
    "strided": lambda: [nn.Conv2d(4, 3, 3, stride=2, dilation=2, padding=1)],
    "depthwise": lambda: [nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.SiLU(), nn.Conv2d(4, 5, 1)],
    "groups": lambda: [nn.Conv2d(4, 6, 3, groups=2, bias=False)],
    "same": lambda: [nn.Conv2d(4, 4, 3, padding="same")],
    "same, even": lambda: [nn.Conv2d(4, 4, 2, padding="same")],
    "valid": lambda: [nn.Conv2d(4, 4, 2, padding="valid")],
    "reflect": lambda: [nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")],
    "transposed": lambda: [nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)],
    "average": lambda: [nn.AvgPool2d(2)],
    "average, padded": lambda: [nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)],
    "adaptive": lambda: [nn.AdaptiveAvgPool2d((2, 3))],
    "global": lambda: [nn.AdaptiveAvgPool2d(1)],
    "adaptive max": lambda: [nn.AdaptiveMaxPool2d(2)],
    "max": lambda: [nn.MaxPool2d(2), nn.Tanh()],
    "max, odd": lambda: [nn.MaxPool2d(3, 2, 1, ceil_mode=True)],
    "upsample": lambda: [nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3)],
    "bilinear": lambda: [nn.Upsample(scale_factor=2, mode="bilinear")],
    "zero pad": lambda: [nn.ZeroPad2d(1), nn.ReLU()],
    "shuffle": lambda: [nn.PixelShuffle(2)],
    "channels attended": lambda: [Do(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid())],
    "softmax": lambda: [nn.Softmax2d()],
    "dropout": lambda: [nn.Dropout2d(0.3).eval()],
    "to tokens": lambda: [Do(lambda x: x.flatten(2).transpose(1, 2)), nn.Linear(4, 3)],
    "wide": lambda: [nn.Conv2d(4, 80, 3, stride=3), nn.ReLU(), nn.Conv2d(80, 80, 3, padding=1)],
    "wide, one place": lambda: [nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 80, 1), nn.Tanh(),
                                nn.Conv2d(80, 70, 3, 2, padding=1, bias=False), nn.GELU()],
    "linear on grids": lambda: [nn.Linear(7, 3), nn.ReLU(), nn.LayerNorm(3)],
    "local response": lambda: [nn.LocalResponseNorm(2)],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("name", IMAGES)
def test_layers_of_images(name):
    torch.manual_seed(3)
    model = images(*IMAGES[name]()).double()
    x = torch.randn(2, 4, 2, 6, 7, dtype=WIDE)
    with torch.no_grad():
        model(x[0])
    agree(model, x)


@pytest.mark.parametrize("name", ["depthwise", "strided", "transposed", "batch norm"])
def test_convolutions_grouped_by_task(name):
    torch.manual_seed(3)
    model = images(*IMAGES[name]()).double()
    x = torch.randn(2, 4, 2, 6, 7, dtype=WIDE)
    with torch.no_grad():
        model(x[0])
    agree(model, x, conv="grouped")


LINES = {
    "conv1d": lambda: [nn.Conv1d(2, 4, 3, padding=1), nn.Tanh(), nn.AvgPool1d(2)],
    "batch norm": lambda: [nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4, track_running_stats=False)],
    "batch norm, eval": lambda: [nn.Conv1d(2, 4, 3), used(nn.BatchNorm1d(4))],
    "max": lambda: [nn.Conv1d(2, 4, 3), nn.MaxPool1d(2), nn.Tanh()],
    "adaptive": lambda: [nn.Conv1d(2, 4, 2, stride=2), nn.AdaptiveAvgPool1d(3)],
    "transposed": lambda: [nn.ConvTranspose1d(2, 4, 3, stride=2), nn.ReLU()],
    "groups": lambda: [nn.Conv1d(2, 4, 3, groups=2, padding="same", dilation=2)],
}


@pytest.mark.parametrize("name", LINES)
def test_layers_of_lines(name):
    torch.manual_seed(4)
    model = nn.Sequential(*LINES[name](), nn.Flatten(), nn.LazyLinear(3)).double()
    x = torch.randn(2, 4, 2, 8, dtype=WIDE)
    with torch.no_grad():
        model(x[0])
    assert ways(agree(model, x)) == {"closed form"}


VOLUMES = {
    "conv3d": lambda: [nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), nn.ReLU()],
    "batch norm": lambda: [nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3, track_running_stats=False)],
    "pools": lambda: [nn.Conv3d(2, 3, 2), nn.Tanh(), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(1)],
}


@pytest.mark.parametrize("name", VOLUMES)
def test_layers_of_volumes(name):
    torch.manual_seed(4)
    model = nn.Sequential(*VOLUMES[name](), nn.Flatten(), nn.LazyLinear(3)).double()
    x = torch.randn(2, 3, 2, 4, 4, 5, dtype=WIDE)
    with torch.no_grad():
        model(x[0])
    agree(model, x)
