"""Kinds of layers and functions in a small network, against double backward of the module."""

from __future__ import annotations

import math

import pytest
import torch
from dense_oracle import placed
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from binomctl.curvature.analytic.engine import AnalyticEngine

TOLERANCE = 1e-12
WIDE = torch.float64


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small gain nothing from more, and wait where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-30))


def by_autograd(model, loss, phi, x, y, v):
    """Loss, gradient, H v and outputs of one task, phi and v flat, by torch.autograd alone."""
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    shapes = [dict(model.named_parameters())[n].shape for n in names]
    phi = phi.clone().requires_grad_()
    parts = torch.split(phi, [s.numel() for s in shapes])
    named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        output = functional_call(model, named, (x,))
        value = loss(output, y)
        (gradient,) = torch.autograd.grad(value, phi, create_graph=True)
        (product,) = torch.autograd.grad((gradient * v).sum(), phi, materialize_grads=True)
    return value.detach(), gradient.detach(), product, output.detach()


def agree(model, x, loss=F.mse_loss, y=None, tolerance=TOLERANCE, **options):
    """Two tasks with parameters of their own, support and query sets of different sizes."""
    model = model.double()
    engine = AnalyticEngine(model, loss, x=x[0], **options)
    d = engine.layout.d
    theta = engine.layout.flatten({n: p.detach() for n, p in model.named_parameters()})
    phi = theta + 0.05 * torch.randn(2, d, dtype=WIDE)
    v = torch.randn(2, d, dtype=WIDE)
    for inputs in (x, torch.cat([x.flip(1), x[:, :1]], 1)):
        with torch.no_grad():
            out = model(inputs[0])
        aim = torch.randn(2, *out.shape, dtype=WIDE) if y is None else y(inputs)
        want = [
            torch.stack(c)
            for c in zip(*(by_autograd(model, loss, *rows) for rows in zip(
                phi, inputs, aim, v, strict=True)), strict=True)
        ]  # fmt: skip
        at = engine.curvature(inputs, aim)
        found = [*at.gradient(phi, 0, True), at.hvp([0], v.unsqueeze(1))[:, 0]]
        found.append(engine.predict(phi, inputs))
        errors = [relative(f, w) for f, w in zip(found, want, strict=True)]
        assert max(errors) <= tolerance, errors
        query = engine.query(phi, inputs, aim)
        assert relative(query[1], want[1]) <= tolerance
        assert relative(query[2], want[3]) <= tolerance
        assert found[3].shape == want[3].shape
    return engine


def ways(engine):
    return {way for _, _, way in engine.program.describe()}


def on_vectors(layer):
    return nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(6, 3))


ACTIVATIONS = [
    nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.ELU(0.7), nn.Softplus(), nn.Softplus(2, 1.5),
    nn.Hardswish(), nn.Hardtanh(-0.5, 0.4), nn.ReLU6(), nn.Mish(), nn.SELU(),
    nn.CELU(0.5), nn.LogSigmoid(), nn.Softsign(), nn.Sigmoid(), nn.Tanh(), nn.ReLU(),
    nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.LeakyReLU(-0.2), nn.PReLU(), nn.PReLU(6),
    nn.ELU(inplace=True), nn.Softmax(-1), nn.LogSoftmax(-1), nn.Identity(), nn.Dropout(0.0),
]  # fmt: skip


def used(norm):
    """In eval mode, with statistics that are not 0 and 1."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm.eval()


class Do(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


FUNCTIONS = {
    "sin": torch.sin, "cos": torch.cos, "exp": torch.exp, "log": lambda x: (x * x + 1).log(),
    "sqrt": lambda x: (x.square() + 1).sqrt(), "rsqrt": lambda x: (x.square() + 1).rsqrt(),
    "pow": lambda x: x**3, "pow half": lambda x: (x * x + 1) ** 0.5, "abs": torch.abs,
    "neg": lambda x: -x, "reciprocal": lambda x: (x * x + 1).reciprocal(), "clamp": lambda x:
    x.clamp(-0.3, 0.5), "clamp min": lambda x: x.clamp(min=0.1), "add": lambda x: 1 + x + x * 2,
    "sub": lambda x: 2 - x - 3, "div": lambda x: x / 2 + 1 / (2 + x * x), "mul": lambda x: x * x,
    "div both": lambda x: x / (1 + x.abs()), "log1p": lambda x: torch.log1p(x * x),
    "erf": torch.erf, "expm1": torch.expm1, "sub alpha": lambda x: torch.sub(x, x * x, alpha=3),
    "chunk": lambda x: torch.cat([a * b for a, b in [x.chunk(2, -1)] * 2], -1),
    "split": lambda x: torch.cat(x.split([2, 4], 1)[::-1], 1),
    "stack": lambda x: torch.stack([x, x.sin()], 1).sum(1),
    "slices": lambda x: torch.cat([x[:, 1:], x[..., :1]], dim=-1) + x[:, None, 2],
    "mean": lambda x: x - x.mean(-1, keepdim=True), "sum all": lambda x: x * x.sum(),
    "over batch": lambda x: x - x.mean(0), "expand": lambda x: x * x[:, :1].expand(-1, 6),
    "expand as": lambda x: x[0].expand_as(x) * x, "norm": lambda x: x / x.norm(dim=1, keepdim=True),
    "normalize": lambda x: F.normalize(x, dim=-1), "transpose": lambda x: x @ (x.t() @ x).tanh(),
    "transposed": lambda x: ((x.t() @ x).sin() @ x.T).T,
    "matmul 1d": lambda x: x * (x @ x[0])[:, None],
    "einsum": lambda x: torch.einsum("nf,mf->nm", x, x).mean(1, keepdim=True) + x,
    "where": lambda x: torch.where(x > 0, x * x, x.sin()), "softmin": lambda x: F.softmin(x, 1),
    "max": lambda x: x - x.max(1, keepdim=True).values,
    "var": lambda x: x / (1 + x.var(1)[:, None]),
    "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True), "cumsum": lambda x: x.cumsum(1),
    "topk": lambda x: x + x.topk(2, 1)[0].sum(1, keepdim=True), "glu": lambda x: F.glu(
        torch.cat([x, x * x], 1)), "roll": lambda x: x.roll(1, 1), "detach": lambda x:
    x * x.detach() + x, "sort": lambda x: x.sort(1)[0] * x, "clone": lambda x: x.clone().mul_(x),
    "masked": lambda x: x.masked_fill(torch.eye(6).bool()[:1], 0.0) + x,
    "int power": lambda x: 2**x,
    "view of N": lambda x: (x.view(x.shape[0] * 2, -1).sin()).view(len(x), 6), "flip": lambda x:
    x.flip(1) * x, "unbind": lambda x: torch.stack(x.unbind(1)[::-1], 1), "arange": lambda x:
    x * torch.arange(x.size(1)) + torch.arange(len(x))[:, None] / 7, "iter": lambda x: torch.stack(
        [row.sin() for row in x]), "one hot": lambda x: x @ F.one_hot(torch.arange(6)).double(),
    "pad": lambda x: F.pad(x, (1, 2))[:, 1:7] * x,
    "sqrt of size": lambda x: x / math.sqrt(x.size(1)),
}  # fmt: skip


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_activations_on_vectors_and_sequences(layer):
    torch.manual_seed(1)
    engine = agree(on_vectors(layer), torch.randn(2, 5, 4, dtype=WIDE))
    assert ways(engine) == {"closed form"}
    if not (isinstance(layer, nn.PReLU) and layer.num_parameters > 1):
        agree(on_vectors(layer), torch.randn(2, 3, 2, 4, dtype=WIDE))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    torch.manual_seed(2)
    agree(on_vectors(Do(FUNCTIONS[name])), torch.randn(2, 5, 4, dtype=WIDE), tolerance=2e-12)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.same = self.layer
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.same(self.layer(x).tanh()) + self.layer(x))


def test_a_module_called_more_than_once():
    torch.manual_seed(8)
    agree(Twice(), torch.randn(2, 5, 4, dtype=WIDE))


class Hyper(nn.Module):
    """Weights that are computed from parameters and from inputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.gain = nn.Parameter(torch.rand(4, 1, 1, 1))
        self.head = nn.Linear(4, 3)
        self.mixed = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        w = self.conv.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.var((1, 2, 3), keepdim=True) + 1e-3).sqrt()
        h = F.conv2d(x, w * self.gain, self.conv.bias).relu().mean((2, 3))
        return self.head(h) + F.linear(h, self.mixed * self.head.weight, self.head.bias)


def test_weights_that_are_computed():
    torch.manual_seed(9)
    agree(Hyper(), torch.randn(2, 4, 2, 6, 7, dtype=WIDE))


OUTPUTS = {
    "images": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)), (2, 6, 7)),
    "scalars": (lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), (4,)),
    "sequences": (lambda: nn.Linear(4, 5), (3, 4)),
    "input first": (lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 5)), (4,)),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_of_any_shape(name):
    torch.manual_seed(10)
    build, shape = OUTPUTS[name]
    agree(build(), torch.randn(2, 4, *shape, dtype=WIDE))


def mixed():
    """Closed forms of every family, a generic layer, constants and a parameter by itself."""
    layers = [nn.Conv2d(2, 4, 3), used(nn.BatchNorm2d(4)), nn.GELU(), nn.GroupNorm(2, 4)]
    layers += [nn.AvgPool2d(2), Do(lambda x: x.flatten(2).transpose(1, 2))]
    layers += [nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)]
    return nn.Sequential(*layers, nn.Softshrink(0.1), nn.Flatten(), nn.Linear(16, 3)).double()


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("chunk", [None, 1])
def test_every_schedule_gives_the_same_products(order, memory, chunk):
    torch.manual_seed(11)
    model, x, y = mixed(), torch.randn(2, 3, 2, 6, 6, dtype=WIDE), torch.randint(0, 3, (2, 3))
    engine = AnalyticEngine(model, F.cross_entropy, x=x[0], order=order, memory=memory, chunk=chunk)
    phi = 0.3 * torch.randn(2, 3, engine.layout.d, dtype=WIDE)
    V = torch.randn(2, 2, engine.layout.d, dtype=WIDE)
    at = engine.curvature(x, y)
    for k in range(3):
        at.gradient(phi[:, k], k, True)
    found = at.hvp([2, 0], V)
    for b in range(2):
        for p, k in enumerate([2, 0]):
            want = by_autograd(model, F.cross_entropy, phi[b, k], x[b], y[b], V[b, p])[2]
            assert relative(found[b, p], want) < 1e-12


def test_float32_to_its_precision():
    torch.manual_seed(12)
    model, x, y = mixed(), torch.randn(2, 3, 2, 6, 6, dtype=WIDE), torch.randint(0, 3, (2, 3))
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    phi, v = theta.expand(2, -1), torch.randn(2, len(theta), dtype=WIDE)
    want = [by_autograd(model, F.cross_entropy, *r)[2] for r in zip(phi, x, y, v, strict=True)]
    engine = AnalyticEngine(model.float(), F.cross_entropy, x=x[0].float())
    at = engine.curvature(x.float(), y)
    found = placed(at, phi.float().unsqueeze(1)).hvp([0], v.float().unsqueeze(1))[:, 0]
    assert found.dtype == torch.float32
    assert relative(found.double(), torch.stack(want)) < 1e-4


def test_hardsigmoid_which_torch_does_not_derive_twice():
    torch.manual_seed(13)
    x, y = torch.randn(2, 5, 4, dtype=WIDE), torch.randn(2, 5, 3, dtype=WIDE)
    torch.manual_seed(13)
    one = on_vectors(nn.Hardsigmoid()).double()
    two = on_vectors(Do(lambda x: F.relu6(x + 3) / 6)).double()
    two.load_state_dict(one.state_dict())
    products = []
    for model in (one, two):
        engine = AnalyticEngine(model, F.mse_loss, x=x[0])
        phi = torch.cat([p.detach().flatten() for p in one.parameters()]).expand(2, -1)
        products.append(placed(engine.curvature(x, y), phi[:, None]).hvp([0], phi[:, None].cos()))
    assert relative(*products) < 1e-12
