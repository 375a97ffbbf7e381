"""Weights that are computed from other weights, and bases that are frozen."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from zoo.entry import Net, ce, mse, normal, parameter, registrar, three

add = registrar("reparametrised", loss=ce, x=normal(4), y=three)


def two(first: nn.Module) -> nn.Module:
    return nn.Sequential(first, nn.Tanh(), nn.Linear(5, 3))


def weight_norm_by_hooks() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own older form
        return two(nn.utils.weight_norm(nn.Linear(4, 5)))


class Normed(nn.Module):
    """Weight normalisation written out: torch's own second derivative of it is wrong."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return v * (g / v.norm(dim=1, keepdim=True))

    def right_inverse(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return w.norm(dim=1, keepdim=True), w


def weight_norm_written_out() -> nn.Module:
    layer = nn.Linear(4, 5)
    parametrize.register_parametrization(layer, "weight", Normed())
    return two(layer)


def weight_norm_hooks_written_out() -> nn.Module:
    layer = weight_norm_by_hooks()
    g, v, bias, last = layer[0].weight_g, layer[0].weight_v, layer[0].bias, layer[2]

    def first(net: Any, x: Tensor) -> Tensor:
        return F.linear(x, net.weight_v * (net.weight_g / net.weight_v.norm(dim=1, keepdim=True)),
                        net.bias)  # fmt: skip

    return nn.Sequential(Net(first, bias=bias, weight_g=g, weight_v=v), nn.Tanh(), last)


add("weight_norm_hooks", weight_norm_by_hooks, twin=weight_norm_hooks_written_out)
add("weight_norm", lambda: two(parametrizations.weight_norm(nn.Linear(4, 5))),
    twin=weight_norm_written_out)  # fmt: skip
add("spectral_norm_eval", lambda: two(parametrizations.spectral_norm(nn.Linear(4, 5))).eval())
add("spectral_norm_train", lambda: two(parametrizations.spectral_norm(nn.Linear(4, 5))),
    may_refuse=True)  # fmt: skip
add("spectral_norm_hooks_eval", lambda: two(nn.utils.spectral_norm(nn.Linear(4, 5))).eval())
add("orthogonal", lambda: two(parametrizations.orthogonal(nn.Linear(4, 5))), may_refuse=True)


class Symmetric(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w.triu() + w.triu(1).mT


class Positive(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return F.softplus(w)


def parametrised(part: nn.Module) -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    parametrize.register_parametrization(net[0], "weight", part)
    return net


add("parametrised_symmetric", lambda: parametrised(Symmetric()))
add("parametrised_positive", lambda: parametrised(Positive()))


class LowRank(nn.Module):
    """LoRA: a frozen layer and a trainable update of rank two."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = parameter(2, base.in_features)
        self.up = parameter(base.out_features, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 0.5 * x @ self.down.t() @ self.up.t()


add("lora", lambda: two(LowRank(nn.Linear(4, 5))))
add("lora_all", lambda: nn.Sequential(LowRank(nn.Linear(4, 5)), nn.GELU(),
    LowRank(nn.Linear(5, 3))))  # fmt: skip
add("frozen_base", lambda: nn.Sequential(
    nn.Linear(4, 5).requires_grad_(False), nn.Tanh(), nn.Linear(5, 3)))  # fmt: skip
add("frozen_head", lambda: nn.Sequential(
    nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3).requires_grad_(False)))  # fmt: skip
add("frozen_weight_only", lambda: (lambda net: (net[0].weight.requires_grad_(False), net)[1])(
    two(nn.Linear(4, 5))))  # fmt: skip
add("adapters", lambda: Net(
    lambda net, x: net.head((lambda h: h + net.up(net.down(h).relu()))(net.base(x))),
    base=nn.Linear(4, 5).requires_grad_(False), down=nn.Linear(5, 2), up=nn.Linear(2, 5),
    head=nn.Linear(5, 3)))  # fmt: skip
add("prompt", lambda: Net(
    lambda net, x: net.head(net.base(torch.cat([x, net.prompt.expand(len(x), 2)], 1)).tanh()),
    prompt=parameter(2), base=nn.Linear(6, 5).requires_grad_(False),
    head=nn.Linear(5, 3)))  # fmt: skip


class Hyper(nn.Module):
    """One network makes the weights of another, which is called with them."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 15))
        self.code = parameter(2)

    def forward(self, x: Tensor) -> Tensor:
        made = self.maker(self.code)
        return F.linear(x.tanh(), made[:12].view(3, 4), made[12:])


class HyperPerPoint(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.maker = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(self.maker(x).view(-1, 3, 4), x.unsqueeze(-1)).squeeze(-1)


def called_with_weights(net: Any, x: Tensor) -> Tensor:
    """functional_call inside a forward."""
    weight, bias = net.weight * net.scale, net.bias
    return net.head(functional_call(net.shape, {"weight": weight, "bias": bias}, (x,)).tanh())


def shape_only() -> nn.Module:
    return nn.Linear(4, 5).requires_grad_(False)


add("hypernetwork", Hyper)
add("hypernetwork_per_point", HyperPerPoint)
add("functional_call_inside", lambda: Net(
    called_with_weights, shape=shape_only(), weight=parameter(5, 4), bias=parameter(5),
    scale=parameter(), head=nn.Linear(5, 3)))  # fmt: skip
add("low_rank_weights", lambda: Net(
    lambda net, x: (x @ net.a @ net.b).tanh() @ net.c, a=parameter(4, 2), b=parameter(2, 5),
    c=parameter(5, 3)))  # fmt: skip
add("kronecker_weights", lambda: Net(
    lambda net, x: (x @ torch.kron(net.a, net.b)).tanh() @ net.c, a=parameter(2, 3),
    b=parameter(2, 2), c=parameter(6, 3)))  # fmt: skip
add("circulant_weights", lambda: Net(
    lambda net, x: net.head(torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(net.c), 4).tanh()),
    c=parameter(4), head=nn.Linear(4, 3)))  # fmt: skip
add("matrix_exponential", lambda: Net(
    lambda net, x: net.head((x @ torch.linalg.matrix_exp(net.a - net.a.mT)).tanh()),
    a=parameter(4, 4), head=nn.Linear(4, 3)), may_refuse=True)  # fmt: skip
add("cayley", lambda: Net(
    lambda net, x: net.head((x @ torch.linalg.solve(torch.eye(4).to(x) + net.a - net.a.mT,
                                                    torch.eye(4).to(x) - net.a + net.a.mT)).tanh()),
    a=parameter(4, 4), head=nn.Linear(4, 3)))  # fmt: skip
add(
    "normalised_columns",
    lambda: Net(
        lambda net, x: F.normalize(x, dim=-1) @ F.normalize(net.w, dim=0) * 5, w=parameter(4, 3)
    ),
)
add("weights_from_softmax", lambda: Net(
    lambda net, x: torch.einsum("k,koi,ni->no", net.mix.softmax(0), net.bank, x.tanh()),
    mix=parameter(3), bank=parameter(3, 3, 4)))  # fmt: skip
add("ridge_head", lambda: Net(
    lambda net, x: (lambda h: h @ torch.linalg.solve(
        h.mT @ h + net.ridge.exp() * torch.eye(5).to(x), h.mT @ x[:, :2]))(net.body(x).tanh()),
    body=nn.Linear(4, 5), ridge=parameter()), mse, normal(4), normal(2))  # fmt: skip
add("cholesky_gaussian", lambda: Net(
    lambda net, x: torch.distributions.MultivariateNormal(
        net.mean, scale_tril=net.l.tril(-1) + torch.diag(net.d.exp()),
        validate_args=False).log_prob(x),
    mean=parameter(4), l=parameter(4, 4), d=parameter(4)),
    lambda p, y: -p.mean() + 0 * y.sum())  # fmt: skip
