"""Hooks, checkpoints, and derivatives inside a forward."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.catalogue.gradients import add, two_layers
from zoo.entry import Net, mse, normal


def hooked(kind: str) -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    if kind == "scale":
        net[0].register_forward_hook(lambda module, args, out: 2 * out)
    elif kind == "detach":
        net[1].register_forward_hook(lambda module, args, out: out + out.detach().square())
    elif kind == "pre":
        net[2].register_forward_pre_hook(lambda module, args: (args[0] * 1.5,))
    elif kind == "tie":
        shared = net[0]
        net[2] = nn.Linear(4, 5)
        net.append(nn.Linear(5, 3))
        net[1] = nn.Sequential(nn.Tanh(), nn.Linear(5, 4))
        net[2].weight = nn.Parameter(shared.weight.detach().clone())

        def tie(module: nn.Module, args: Any) -> None:
            module.__dict__["kept"] = shared.weight.norm()

        net[2].register_forward_pre_hook(tie)
        net[2].register_forward_hook(lambda module, args, out: out * module.kept)
    elif kind == "full_backward":
        net[1].register_full_backward_hook(lambda module, gi, go: (gi[0] * 0.5,))
    elif kind == "kwargs":
        net[0].register_forward_hook(lambda m, args, kw, out: out + 1, with_kwargs=True)
    return net


for kind in ("scale", "detach", "pre", "tie", "kwargs"):
    add(f"hook_{kind}", lambda kind=kind: hooked(kind))
add("hook_full_backward", lambda: hooked("full_backward"), may_refuse=True)


def scaled_inside(net: Any, x: Tensor) -> Tensor:
    h = net.a(x).tanh()
    if h.requires_grad:
        h.register_hook(lambda g: 0.5 * g)
    return net.b(h)


def parameter_hook() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    net[0].weight.register_hook(lambda g: g.clamp(-1, 1))  # only where .grad is accumulated
    return net


add("tensor_hook", lambda: Net(scaled_inside, **two_layers()), may_refuse=True)
add("parameter_hook", parameter_hook, may_refuse=True)


def kept(reentrant: bool) -> Any:
    def forward(net: Any, x: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice about the older form
            h = checkpoint(net.body, x, use_reentrant=reentrant)
        return net.b(h)

    return forward


def body() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh())


def not_kept() -> nn.Module:
    return Net(lambda net, x: net.b(net.body(x)), body=body(), b=nn.Linear(5, 3))


# torch.func.functional_call is over when a checkpoint runs its part again
add("checkpoint", lambda: Net(kept(False), body=body(), b=nn.Linear(5, 3)), twin=not_kept)
add("checkpoint_reentrant", lambda: Net(kept(True), body=body(), b=nn.Linear(5, 3)),
    may_refuse=True, twin=not_kept)  # fmt: skip


class Energy(nn.Module):
    """The output is minus the gradient of a scalar: a derivative inside the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return -torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0]


class Score(nn.Module):
    """The same through torch.func."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(torch.func.grad(lambda point: self.net(point).sum()))(x)


add("energy", Energy, mse, normal(4), normal(4), allow_unused=True)
add("score_by_func", Score, mse, normal(4), normal(4), allow_unused=True)
