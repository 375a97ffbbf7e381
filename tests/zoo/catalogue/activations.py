"""Every activation of torch, between two linear layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import Net, ce, normal, registrar, three

add = registrar("activation", loss=ce, x=normal(5), y=three)

MODULES: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU, "hardshrink": nn.Hardshrink, "hardtanh": nn.Hardtanh,
    "hardswish": nn.Hardswish, "leaky_relu": nn.LeakyReLU,
    "log_sigmoid": nn.LogSigmoid, "prelu": nn.PReLU, "relu": nn.ReLU, "relu6": nn.ReLU6,
    "selu": nn.SELU, "celu": nn.CELU, "gelu": nn.GELU, "sigmoid": nn.Sigmoid, "silu": nn.SiLU,
    "mish": nn.Mish, "softplus": nn.Softplus, "softshrink": nn.Softshrink,
    "softsign": nn.Softsign, "tanh": nn.Tanh, "tanhshrink": nn.Tanhshrink,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "threshold": lambda: nn.Threshold(0.1, -0.3),
    "softplus_beta": lambda: nn.Softplus(beta=3.0, threshold=2.0),
    "prelu_channels": lambda: nn.PReLU(6),
    "softmax": lambda: nn.Softmax(-1), "softmin": lambda: nn.Softmin(-1),
    "log_softmax": lambda: nn.LogSoftmax(-1),
    "relu_inplace": lambda: nn.ReLU(inplace=True),
    "elu_inplace": lambda: nn.ELU(inplace=True),
    "silu_inplace": lambda: nn.SiLU(inplace=True),
}  # fmt: skip


def between(activation: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 3))


class Clipped(nn.Module):
    """Hardsigmoid from operations that torch derives twice."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


for name, activation in MODULES.items():
    add(f"activation_{name}", between(activation))
# torch keeps the sixth in float32
add("activation_hardsigmoid", between(nn.Hardsigmoid), twin=between(Clipped), may_refuse=True,
    tolerance=1e-6)  # fmt: skip

add("activation_glu", lambda: nn.Sequential(nn.Linear(5, 12), nn.GLU(-1), nn.Linear(6, 3)))
add(
    "activation_softmax2d",
    lambda: nn.Sequential(
        nn.Linear(5, 16), nn.Unflatten(1, (4, 2, 2)), nn.Softmax2d(), nn.Flatten(), nn.Linear(16, 3)
    ),
)
add("activation_rrelu_eval", lambda: between(nn.RReLU)().eval())

FUNCTIONS = {
    "crelu": (lambda h: torch.cat([F.relu(h), F.relu(-h)], -1), 12),
    "swiglu": (lambda h: F.silu(h[..., :3]) * h[..., 3:], 3),
    "squared_relu": (lambda h: F.relu(h).square(), 6),
    "snake": (lambda h: h + torch.sin(h).square(), 6),
    "softclip": (lambda h: h / (1 + h.abs()).sqrt(), 6),
    "clamp": (lambda h: h.clamp(-0.5, 0.5), 6),
    "erf": (torch.erf, 6),
    "where": (lambda h: torch.where(h > 0, h, 0.1 * h.expm1()), 6),
    "log1p": (lambda h: h.sign() * h.abs().log1p(), 6),
    "gaussian": (lambda h: torch.exp(-h.square()), 6),
    "normalize": (lambda h: F.normalize(h, dim=-1), 6),
    "logsumexp": (lambda h: h - h.logsumexp(-1, keepdim=True), 6),
    "sort": (lambda h: h.sort(-1).values, 6),
    "topk": (lambda h: h.topk(3, -1).values, 3),
    "cumsum": (lambda h: h.cumsum(-1).tanh(), 6),
    "cumprod": (lambda h: (1 + 0.1 * h).cumprod(-1), 6),
    "fft": (lambda h: torch.fft.rfft(h).abs(), 4),
    "atan2": (lambda h: torch.atan2(h, 1 + h.roll(1, -1).square()), 6),
}
for name, (function, width) in FUNCTIONS.items():
    add(
        f"function_{name}",
        lambda function=function, width=width: Net(
            lambda net, x, function=function: net.head(function(net.body(x))),
            body=nn.Linear(5, 6),
            head=nn.Linear(width, 3),
        ),
    )
