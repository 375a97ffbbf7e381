"""Convolutions, normalisations, pools and the shapes between them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from zoo.entry import Net, ce, normal, parameter, registrar, three

conv = registrar("convolution", loss=ce, x=normal(2, 7, 7), y=three)
norm = registrar("normalisation", loss=ce, x=normal(2, 6, 6), y=three)
pool = registrar("pooling", loss=ce, x=normal(2, 8, 8), y=three)


def headed(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Layers that end in four channels, averaged over what is left of space."""
    return lambda: Net(
        lambda net, x: net.head(net.body(x).flatten(2).mean(-1)),
        body=nn.Sequential(*(layer() for layer in layers)),
        head=nn.Linear(4, 3),
    )


def layer(cls: type[nn.Module], *args: object, **kwargs: object) -> Callable[[], nn.Module]:
    return lambda: cls(*args, **kwargs)


for name, options in {
    "plain": {}, "no_bias": {"bias": False}, "strided": {"stride": 2}, "padded": {"padding": 1},
    "same": {"padding": "same"}, "dilated": {"dilation": 2}, "grouped": {"groups": 2},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "replicate": {"padding": 1, "padding_mode": "replicate"},
    "uneven": {"stride": (2, 1), "padding": (0, 2)},
}.items():  # fmt: skip
    conv(f"conv2d_{name}", headed(layer(nn.Conv2d, 2, 4, 3, **options), nn.Tanh))

conv(
    "conv2d_depthwise_separable",
    headed(layer(nn.Conv2d, 2, 4, 3, groups=2), nn.ReLU, layer(nn.Conv2d, 4, 4, 1), nn.ReLU),
)
conv("conv1d", headed(layer(nn.Conv1d, 2, 4, 3), nn.GELU), x=normal(2, 9))
conv("conv1d_causal", headed(layer(nn.ConstantPad1d, (2, 0), 0.0), layer(nn.Conv1d, 2, 4, 3),
     nn.Tanh), x=normal(2, 9))  # fmt: skip
conv("conv3d", headed(layer(nn.Conv3d, 2, 4, 2), nn.Tanh), x=normal(2, 4, 4, 4))
conv("conv_transpose1d", headed(layer(nn.ConvTranspose1d, 2, 4, 3, 2), nn.Tanh), x=normal(2, 5))
conv(
    "conv_transpose2d",
    headed(layer(nn.ConvTranspose2d, 2, 4, 3, stride=2, output_padding=1), nn.Tanh),
    x=normal(2, 4, 4),
)
conv("conv_functional", lambda: Net(
    lambda net, x: net.head(F.conv2d(x, net.kernel, stride=2).tanh().mean((2, 3))),
    kernel=parameter(4, 2, 3, 3), head=nn.Linear(4, 3)))  # fmt: skip
conv("conv_unfold", lambda: Net(
    lambda net, x: net.head((net.kernel @ F.unfold(x, 3)).tanh().mean(-1)),
    kernel=parameter(4, 18), head=nn.Linear(4, 3)))  # fmt: skip
conv(
    "conv_channels_last",
    lambda: headed(layer(nn.Conv2d, 2, 4, 3), nn.ReLU)().to(memory_format=torch.channels_last),
)
conv("pixel_shuffle", headed(layer(nn.Conv2d, 2, 16, 3), layer(nn.PixelShuffle, 2), nn.Tanh))
conv("pixel_unshuffle", headed(layer(nn.PixelUnshuffle, 2), layer(nn.Conv2d, 8, 4, 2), nn.Tanh),
     x=normal(2, 6, 6))  # fmt: skip
for mode in ("nearest", "bilinear", "bicubic"):
    conv(f"upsample_{mode}", headed(layer(nn.Conv2d, 2, 4, 3), layer(nn.Upsample, scale_factor=2,
         mode=mode), nn.Tanh, layer(nn.Conv2d, 4, 4, 3)))  # fmt: skip
conv("conv_residual", lambda: Net(
    lambda net, x: net.head((lambda h: h + net.b(h.relu()))(net.a(x)).mean((2, 3))),
    a=nn.Conv2d(2, 4, 3, padding=1), b=nn.Conv2d(4, 4, 3, padding=1),
    head=nn.Linear(4, 3)))  # fmt: skip
conv("conv_dense_concat", lambda: Net(
    lambda net, x: net.head(net.b(torch.cat([x, net.a(x).relu()], 1)).tanh().mean((2, 3))),
    a=nn.Conv2d(2, 3, 3, padding=1), b=nn.Conv2d(5, 4, 3), head=nn.Linear(4, 3)))  # fmt: skip
conv("conv_shuffle_channels", lambda: Net(
    lambda net, x: net.head(net.b(
        net.a(x).unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2).relu()).mean((2, 3))),
    a=nn.Conv2d(2, 4, 3, groups=2), b=nn.Conv2d(4, 4, 1, groups=2),
    head=nn.Linear(4, 3)))  # fmt: skip
conv("conv_float32", headed(layer(nn.Conv2d, 2, 4, 3), nn.ReLU, layer(nn.MaxPool2d, 2)),
     dtype=torch.float32)  # fmt: skip

NORMS: dict[str, Callable[[], nn.Module]] = {
    "group": layer(nn.GroupNorm, 2, 4), "group_plain": layer(nn.GroupNorm, 4, 4, affine=False),
    "instance": layer(nn.InstanceNorm2d, 4),
    "instance_affine": layer(nn.InstanceNorm2d, 4, affine=True),
    "layer": layer(nn.LayerNorm, [4, 4, 4]),
    "layer_no_bias": layer(nn.LayerNorm, [4, 4], bias=False),
    "rms": layer(nn.RMSNorm, [4, 4]),
    "batch_statistics": layer(nn.BatchNorm2d, 4, track_running_stats=False),
    "batch_plain": layer(nn.BatchNorm2d, 4, affine=False, track_running_stats=False),
    "batch_eval": lambda: nn.BatchNorm2d(4).eval(),
    "local_response": layer(nn.LocalResponseNorm, 3),
}  # fmt: skip
for name, make in NORMS.items():
    norm(f"norm_{name}", headed(layer(nn.Conv2d, 2, 4, 3), make, nn.ReLU))


def with_statistics() -> nn.Module:
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2.0)
    return net.eval()


norm("norm_batch1d_eval_statistics", with_statistics, x=normal(5))
norm("norm_batch1d_statistics", lambda: nn.Sequential(nn.Linear(5, 6),
     nn.BatchNorm1d(6, track_running_stats=False), nn.Tanh(), nn.Linear(6, 3)),
     x=normal(5))  # fmt: skip
norm("norm_layer_tokens", lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(),
     nn.Flatten(), nn.Linear(24, 3)), x=normal(4, 5))  # fmt: skip
norm("norm_by_hand", lambda: Net(
    lambda net, x: net.b((lambda h: net.scale * (h - h.mean(-1, keepdim=True))
                          / (h.var(-1, keepdim=True) + 1e-5).sqrt())(net.a(x))),
    a=nn.Linear(5, 6), b=nn.Linear(6, 3), scale=parameter(6)), x=normal(5))  # fmt: skip
norm("norm_film", lambda: Net(
    lambda net, x: net.b(F.layer_norm(net.a(x), (6,)) * (1 + net.g(x)) + net.s(x)),
    a=nn.Linear(5, 6), b=nn.Linear(6, 3), g=nn.Linear(5, 6), s=nn.Linear(5, 6)),
    x=normal(5))  # fmt: skip
norm("norm_standardised_weights", lambda: Net(
    lambda net, x: net.head(F.conv2d(x, (net.w - net.w.mean((1, 2, 3), True))
                                     / net.w.std((1, 2, 3), keepdim=True)).relu().mean((2, 3))),
    w=parameter(4, 2, 3, 3), head=nn.Linear(4, 3)))  # fmt: skip

POOLS: dict[str, Callable[[], nn.Module]] = {
    "max": layer(nn.MaxPool2d, 2), "max_padded": layer(nn.MaxPool2d, 3, 2, 1),
    "max_dilated": layer(nn.MaxPool2d, 2, 2, dilation=2),
    "max_ceil": layer(nn.MaxPool2d, 4, ceil_mode=True),
    "average": layer(nn.AvgPool2d, 2),
    "average_padded": layer(nn.AvgPool2d, 3, 2, 1, count_include_pad=False),
    "adaptive_average": layer(nn.AdaptiveAvgPool2d, (2, 3)),
    "adaptive_max": layer(nn.AdaptiveMaxPool2d, 2),
    "power": layer(nn.LPPool2d, 2, 2),
}  # fmt: skip
for name, make in POOLS.items():
    pool(f"pool_{name}", headed(layer(nn.Conv2d, 2, 4, 3), nn.Softplus, make))
pool("pool_max_of_ties", headed(layer(nn.Conv2d, 2, 4, 3), nn.ReLU, layer(nn.MaxPool2d, 2)))
pool("pool_1d", headed(layer(nn.Conv1d, 2, 4, 3), layer(nn.MaxPool1d, 2), nn.Tanh),
     x=normal(2, 9))  # fmt: skip
pool("pool_3d", headed(layer(nn.Conv3d, 2, 4, 2), layer(nn.AvgPool3d, 2), nn.Tanh),
     x=normal(2, 5, 5, 5))  # fmt: skip
pool("pool_unpool", lambda: Net(
    lambda net, x: net.head(net.c(F.max_unpool2d(*F.max_pool2d(net.a(x), 2, return_indices=True),
                                                 2).tanh()).mean((2, 3))),
    a=nn.Conv2d(2, 4, 3), c=nn.Conv2d(4, 4, 3), head=nn.Linear(4, 3)))  # fmt: skip
pool("pool_attention", lambda: Net(
    lambda net, x: (lambda h: net.head((h * net.score(h).softmax(1)).sum(1)))(
        net.a(x).flatten(2).transpose(1, 2)),
    a=nn.Conv2d(2, 4, 3), score=nn.Linear(4, 1), head=nn.Linear(4, 3)))  # fmt: skip
pool("pool_generalised_mean", lambda: Net(
    lambda net, x: net.head(F.softplus(net.a(x)).pow(net.p).mean((2, 3)).pow(1 / net.p)),
    a=nn.Conv2d(2, 4, 3), p=nn.Parameter(torch.tensor(3.0)), head=nn.Linear(4, 3)))  # fmt: skip
pool("squeeze_excite_added", lambda: Net(
    lambda net, x: net.head((lambda h: h + F.adaptive_avg_pool2d(h, 1))(net.a(x)).relu()
                            .mean((2, 3))),
    a=nn.Conv2d(2, 4, 3), head=nn.Linear(4, 3)))  # fmt: skip
pool("squeeze_excite_gated", lambda: Net(
    lambda net, x: net.head((lambda h: h * torch.sigmoid(
        net.up(net.down(F.adaptive_avg_pool2d(h, 1)).relu())))(net.a(x)).mean((2, 3))),
    a=nn.Conv2d(2, 4, 3), down=nn.Conv2d(4, 2, 1), up=nn.Conv2d(2, 4, 1),
    head=nn.Linear(4, 3)))  # fmt: skip
