"""Small networks, and what a forward may take and return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.catalogue.structures import IMAGE, UNet, add
from zoo.entry import Net, ce, mse, named, normal, parameter, several, three, uniform


class Pair(NamedTuple):
    logits: Tensor
    hidden: Tensor


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


add("maxout", lambda: Net(lambda net, x: net.b(net.a(x).unflatten(-1, (5, 2)).amax(-1)),
    a=nn.Linear(4, 10), b=nn.Linear(5, 3)))  # fmt: skip
add("bilinear", lambda: Net(lambda net, a, b: net.mix(a, b), mix=nn.Bilinear(4, 3, 3)),
    x=several(normal(4), normal(3)))  # fmt: skip
add("cosine_head", lambda: Net(
    lambda net, x: 5 * F.cosine_similarity(net.a(x).unsqueeze(1), net.w, dim=-1),
    a=nn.Linear(4, 5), w=parameter(3, 5)))  # fmt: skip
add(
    "autoencoder_conv",
    lambda: nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(3, 1, 2, 2)),
    mse,
    IMAGE,
    IMAGE,
)
add("implicit_field_relu", lambda: nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8),
    nn.ReLU(), nn.Linear(8, 1)), mse, uniform(2), normal(1))  # fmt: skip
add("random_features", lambda: Net(
    lambda net, x: net.head(torch.cat([(x @ net.f).sin(), (x @ net.f).cos()], -1)),
    f=nn.Buffer(torch.randn(4, 5)), head=nn.Linear(10, 3)))  # fmt: skip
add("two_towers_by_name", lambda: Net(
    lambda net, left, right: net.a(left).tanh() * net.b(right).tanh(),
    a=nn.Linear(4, 3), b=nn.Linear(2, 3)), x=named(right=normal(2), left=normal(4)))  # fmt: skip
add("output_tuple", lambda: Net(lambda net, x: (net.a(x), net.b(x)), a=nn.Linear(4, 3),
    b=nn.Linear(4, 4)), lambda p, y: ce(p[0], y) + p[1].square().mean())  # fmt: skip
add("output_named_tuple", lambda: Net(lambda net, x: Pair(net.a(x), x), a=nn.Linear(4, 3)),
    lambda p, y: ce(p.logits, y) + p.hidden.mean())  # fmt: skip
add("output_dict", lambda: Net(lambda net, x: {"logits": net.a(x), "n": len(x)},
    a=nn.Linear(4, 3)), lambda p, y: ce(p["logits"], y) * p["n"])  # fmt: skip
add("output_dataclass", lambda: Net(lambda net, x: Output(net.a(x).tanh()), a=nn.Linear(4, 3)),
    lambda p, y: ce(p.logits, y))  # fmt: skip
add("output_loss_inside", lambda: Net(lambda net, x: net.a(x).tanh().square().mean(),
    a=nn.Linear(4, 3)), lambda p, y: p + 0 * y.sum())  # fmt: skip
add("complex_weights", lambda: Net(
    lambda net, x: ((x + 0j) @ torch.complex(net.re, net.im)).abs(), re=parameter(4, 3),
    im=parameter(4, 3)))  # fmt: skip
add(
    "flow_coupling",
    lambda: Net(
        lambda net, x: (lambda s, t: torch.cat([x[:, :2], x[:, 2:] * s.exp() + t, s], 1))(
            *net.a(x[:, :2]).tanh().chunk(2, 1)
        ),
        a=nn.Linear(2, 4),
    ),
    lambda p, y: 0.5 * p[:, :4].square().sum(1).mean() - p[:, 4:].sum(1).mean(),
    y=three,
)
add("gaussian_process_kernel", lambda: Net(
    lambda net, x: torch.exp(-torch.cdist(x * net.scale, x * net.scale).square()),
    scale=parameter(4)), lambda p, y: ((p + torch.eye(len(p)).to(p)).logdet()
    + y.double() @ torch.linalg.solve(p + torch.eye(len(p)).to(p), y.double())))  # fmt: skip
add("mlp_float32", lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)),
    dtype=torch.float32)  # fmt: skip
add("unet_float32", UNet, mse, IMAGE, IMAGE, dtype=torch.float32)
add("deep_relu", lambda: nn.Sequential(*[m for _ in range(8) for m in (nn.Linear(4, 4), nn.ELU())],
    nn.Linear(4, 3)))  # fmt: skip
add("physics_network", lambda: nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)), mse,
    uniform(1), normal(1))  # fmt: skip
