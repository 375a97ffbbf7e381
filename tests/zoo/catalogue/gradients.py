"""Networks that meddle with their own gradients: functions, hooks, detached parts, checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.entry import Net, ce, mse, normal, registrar, several, three

add = registrar("own gradients", loss=ce, x=normal(4), y=three)


class Sign(torch.autograd.Function):
    """Straight-through, in the older style: forward takes the context."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Reverse(torch.autograd.Function):
    """Gradient reversal, in the newer style."""

    @staticmethod
    def forward(x: Tensor, scale: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.scale = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * g, None


class Cube(torch.autograd.Function):
    """Saves its input; the derivative is the true one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


class NewCube(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


class Masked(torch.autograd.Function):
    """Rounding whose gradient passes where the input is small."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (2 * x).round() / 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * (x.abs() < 1)


def around(middle: Any) -> Any:
    """Two linear layers with something between them."""
    return lambda: Net(lambda net, x: net.b(middle(net.a(x))), a=nn.Linear(4, 5),
                       b=nn.Linear(5, 3))  # fmt: skip


add("straight_through_function", around(lambda h: Sign.apply(h) + h.tanh()))
add("straight_through_detach", around(lambda h: h + (h.sign() - h).detach()))
add("gradient_reversal", around(lambda h: Reverse.apply(h.tanh(), 0.5)))
add("function_saving_input", around(Cube.apply))
add("function_new_style", around(NewCube.apply))
add("function_masking_gradient", around(lambda h: Masked.apply(h) + h.sin()))
add("detached_half", around(lambda h: h.tanh() * h.detach()))
add("binarised_weights", lambda: Net(
    lambda net, x: net.head((x @ (net.w + (net.w.sign() - net.w).detach())).tanh()),
    w=nn.Parameter(torch.randn(4, 5)), head=nn.Linear(5, 3)))  # fmt: skip
add("quantised_activation", around(lambda h: h + ((h * 4).round() / 4 - h).detach()))
add("gumbel_argmax_straight", around(
    lambda h: (lambda p: p + (torch.nn.functional.one_hot(p.argmax(-1), 5).to(p) - p).detach())(
        h.softmax(-1))))  # fmt: skip


def under_no_grad(net: Any, x: Tensor) -> Tensor:
    h = net.a(x).tanh()
    with torch.no_grad():
        centre = h.mean(0, keepdim=True)
    return net.b(h - centre)


def switched(net: Any, x: Tensor) -> Tensor:
    h = net.a(x)
    with torch.set_grad_enabled(False):
        scale = h.abs().amax() + 1
    with torch.enable_grad():
        return net.b((h / scale).tanh())


class Decorated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    @torch.no_grad()
    def weights(self, h: Tensor) -> Tensor:
        return h.square().mean(-1, keepdim=True).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).tanh()
        return self.b(h / self.weights(h))


class Teacher(nn.Module):
    """Student and frozen teacher of the same input."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(4, 3)
        self.teacher = nn.Linear(4, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            wanted = self.teacher(x)
        return self.student(x.tanh()), wanted


def two_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(4, 5), "b": nn.Linear(5, 3)}


add("no_grad_block", lambda: Net(under_no_grad, **two_layers()))
add("set_grad_enabled", lambda: Net(switched, **two_layers()))
add("no_grad_method", Decorated)
add("student_and_teacher", Teacher, lambda p, y: mse(*p) + 0.1 * ce(p[0], y))
add("momentum_target_detached", lambda: Net(
    lambda net, a, b: (net.b(net.a(a).tanh()), net.a(b).detach()), a=nn.Linear(4, 3),
    b=nn.Linear(3, 3)), lambda p, y: -torch.cosine_similarity(*p).mean() + 0.1 * ce(p[0], y),
    several(normal(4), normal(4)))  # fmt: skip
