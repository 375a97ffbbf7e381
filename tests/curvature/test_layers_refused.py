"""What recording a forward pass would lose is refused; what changes between calls is read anew."""

from __future__ import annotations

import pytest
import torch
from test_layers_known import (  # noqa: F401
    Do,
    _one_thread,
    agree,
    relative,
    used,
    ways,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm

from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.analytic.recognise import Unsupported, recognise

WIDE = torch.float64


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -g


class Silent(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        return -g


silent = Silent.apply


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g


class Body(nn.Module):
    """A layer, something, a layer."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)
        self.function = function
        self.count = 0
        self.seen = []
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x):
        return self.last(self.function(self, self.first(x).tanh()))


def without_gradient(self, h):
    with torch.no_grad():
        return h * 2


def read_again(self, h):
    view = h[:, :2]
    h.mul_(2)
    return torch.cat([view, h[:, 2:]], 1)


def filled(self, h):
    out = torch.zeros_like(h)
    out[:, :2] = h[:, 2:]
    return out


def swallowed(self, h):
    try:
        return h * 2 if h.sum() > 0 else h
    except Exception:
        return h


def set_on_self(self, h):
    self.last_seen = h
    return h


def counted(self, h):
    self.count += 1
    return h


def appended(self, h):
    self.seen.append(h)
    return h


def buffer_changed(self, h):
    self.scale.mul_(0.5)
    return h * self.scale


def hooked(self, h):
    h.register_hook(lambda g: g * 2)
    return h


def in_half(self, h):
    with torch.autocast("cpu", torch.bfloat16):
        return F.linear(h, self.first.weight).double()


def through_numpy(self, h):
    return h + torch.from_numpy(h.detach().numpy())


BODIES = {
    "runs without gradient": [without_gradient, lambda self, h: Reversed.apply(h),
                              lambda self, h: Scaled.apply(h), lambda self, h: silent(h)],
    "after a view of it": [read_again],
    "__setitem__": [filled],
    "reads values": [swallowed, lambda self, h: h * 2 if h.sum() > 0 else h,
                     lambda self, h: h * float(self.scale.sum() > 1),
                     lambda self, h: h if torch.equal(h, h) else -h],
    "changes 'last_seen'": [set_on_self],
    "changes 'count'": [counted],
    "changes 'seen'": [appended],
    "in place": [buffer_changed],
    "data is not known": [lambda self, h: h + self.first.weight.data],
    "register_hook": [hooked],
    "autocast": [in_half],
    "numpy": [through_numpy],
    "item is not known": [lambda self, h: h * h.sum().item()],
    "draws at random": [lambda self, h: F.dropout(h, 0.5), lambda self, h: h * torch.rand(4),
                        lambda self, h: h + torch.randn_like(h)],
    "cannot be traced": [lambda self, h: h.no_such()],
    "torch.float32": [lambda self, h: h.float().double()],
    "masked_select is not known": [lambda self, h: torch.masked_select(h, h > 0).sum() + h],
    "no derivatives by torch.func": [lambda self, h: h[h > 0].sum() + h],
}  # fmt: skip
CASES = [(words, body) for words, bodies in BODIES.items() for body in bodies]


@pytest.mark.parametrize(("words", "body"), CASES)
def test_what_a_forward_pass_does_is_refused(words, body):
    torch.manual_seed(0)
    model = Body(body).double()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(Unsupported, match=words):
        recognise(model, x=torch.randn(5, 4, dtype=WIDE))
    if "in place" not in words:
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])
    assert model.count == 0
    assert model.seen == []
    assert not hasattr(model, "last_seen")


def with_hook(kind):
    layer = nn.Linear(4, 4)
    getattr(layer, f"register_{kind}")(lambda *a: None)
    return layer


def frozen_hook():
    layer = nn.Linear(4, 4)
    layer.weight.register_hook(lambda g: g)
    return layer


MODULES = {
    "'0.1' has a forward hook": lambda: with_hook("forward_hook"),
    "a forward pre-hook": lambda: with_hook("forward_pre_hook"),
    "a backward hook": lambda: with_hook("full_backward_hook"),
    "a backward pre-hook": lambda: with_hook("full_backward_pre_hook"),
    "parametrizations": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    r"pre-hook \(weight or spectral": lambda: spectral_norm(nn.Linear(4, 4)),
    "'0.1.weight' has a hook": frozen_hook,
    "draws at random": lambda: nn.Dropout(0.2),
    "one tensor": lambda: Do(lambda x: (x, x)),
    "does not depend on parameter '0.0.bias'": lambda: Do(lambda x: x - x.detach() + x.detach()),
}


@pytest.mark.parametrize("words", MODULES)
def test_modules_are_refused_by_path(words):
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), MODULES[words]())).double()
    if "depend" in words:
        model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), Do(torch.detach), nn.Linear(4, 3)))
        words = "does not depend on parameter '0.0.bias'"
        model.double()
    with pytest.raises(Unsupported, match=words):
        recognise(model, x=torch.randn(5, 4, dtype=WIDE))


def resnet(channels=4):
    return nn.Sequential(
        nn.Conv2d(2, channels, 3, padding=1), used(nn.BatchNorm2d(channels)), nn.ReLU(True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3),
    ).double()  # fmt: skip


def test_frozen_parameters_are_constants():
    torch.manual_seed(1)
    model = resnet()
    for p in (*model[0].parameters(), model[1].weight, model[5].bias):
        p.requires_grad_(False)
    engine = agree(model, torch.randn(2, 4, 2, 5, 6, dtype=WIDE))
    assert engine.layout.names == ("1.bias", "5.weight")


@pytest.mark.parametrize("training", [False, True])
def test_constants_are_read_at_every_linearisation(training):
    torch.manual_seed(2)
    model = resnet() if not training else Body(lambda self, h: h * (self.scale * 2 + 1)).double()
    if not training:
        model[0].weight.requires_grad_(False)
    shape = (4,) if training else (2, 5, 6)
    x = torch.randn(2, 4, *shape, dtype=WIDE)
    engine = AnalyticEngine(model, F.mse_loss, x=x[0])
    phi = torch.randn(2, engine.layout.d, dtype=WIDE)
    first = engine.predict(phi, x)
    with torch.no_grad():
        if training:
            model.scale.mul_(3)
        else:
            model[1].running_var.mul_(2)
            model[0].weight.add_(0.1)
    fresh = AnalyticEngine(model, F.mse_loss, x=x[0]).predict(phi, x)
    second = engine.predict(phi, x)
    assert torch.equal(second, fresh)
    assert relative(first, second) > 1e-3


class Sized(nn.Module):
    """Sizes of the batch, baked into numbers by Python."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        N = int(x.shape[0])
        if N > 4:
            x = x * 2
        h = self.layer(x).reshape(N * 2, -1).sin().view(N, 4)
        return self.head(h / N + torch.arange(N)[:, None])


def test_numbers_of_examples_other_than_the_first():
    torch.manual_seed(3)
    agree(Sized(), torch.randn(2, 4, 4, dtype=WIDE))


def test_a_layer_without_a_closed_form_costs_itself():
    model = nn.Sequential(nn.Linear(4, 6), nn.Softshrink(), nn.Linear(6, 3)).double()
    torch.manual_seed(4)
    engine = agree(model, torch.randn(2, 5, 4, dtype=WIDE))
    assert engine.program.describe() == [
        ("0", "Linear", "closed form"),
        ("1", "Softshrink", "torch.func"),
        ("2", "Linear", "closed form"),
    ]
    assert ways(engine) == {"closed form", "torch.func"}


def test_kernels_are_described():
    norm = nn.BatchNorm2d(16, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), norm, nn.ReLU(), nn.Flatten())
    program = recognise(model, blocks=True, x=torch.randn(3, 16, 6, 6))
    assert ("0", "Conv2d", "kernel") in program.describe()
