"""The layer algebra against double backward in float64: layers and networks."""

from __future__ import annotations

import pytest
import torch
from dense_oracle import placed
from torch import nn
from torch.nn import functional as F

from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.flat import initial_parameters
from binomctl.models.conv4 import Conv4
from binomctl.models.mlp import MLP
from binomctl.models.resnet12 import ResNet12

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


@pytest.fixture(params=["native", "torch"])
def kernels(request, monkeypatch):
    """Batch-norm blocks by compiled kernels, and by torch operations."""
    if request.param == "torch":
        monkeypatch.setattr(native, "compiled", lambda: False)
    else:
        assert native.compiled(), "no C compiler here, or the kernels do not compile"
    return request.param


def relative(found, expected):
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def agree(model, in_shape, loss=F.cross_entropy, out=3, B=2, N=5, dtype=torch.float64, x=None,
          **options):  # fmt: skip
    """Loss, gradient, H v at several points, query and outputs: the engine against autograd."""
    model = model.to(dtype)
    engine = AnalyticEngine(model, loss, **options)
    reference = AutogradEngine(model.double(), loss)
    model = model.to(dtype)
    d = engine.layout.d
    if x is None:
        x = torch.randn(B, N, *in_shape, dtype=dtype)
    y = torch.randint(0, out, (B, N)) if loss is F.cross_entropy else torch.randn(
        B, N, out, dtype=dtype)  # fmt: skip
    theta = initial_parameters(model).to(dtype)
    phi = theta + 0.02 * torch.randn(B, 4, d, dtype=dtype)
    V = torch.randn(B, 4, d, dtype=dtype)
    ks = [0, 2, 1, 2]
    ours = engine.curvature(x, y)
    found = [t for k in range(3) for t in ours.gradient(phi[:, k], k, True)]
    found += [ours.hvp(ks, V), *engine.query(phi[:, 3], x, y), engine.predict(phi[:, 3], x)]
    model.double()
    phi, V, x = phi.double(), V.double(), x.double()
    y = y.double() if y.is_floating_point() else y
    theirs = reference.curvature(x, y)
    wanted = [t for k in range(3) for t in theirs.gradient(phi[:, k], k, True)]
    wanted += [theirs.hvp(ks, V), *reference.query(phi[:, 3], x, y)]
    wanted.append(reference.predict(phi[:, 3], x))
    errors = [relative(f, w) for f, w in zip(found, wanted, strict=True)]
    assert max(errors) <= TOLERANCE[dtype], errors


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels, track_running_stats=False)

    def forward(self, x):
        return torch.add(x, self.norm(self.conv(x)).relu())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def image_net(*layers, channels=4, size=3):
    """Convolution, the layers, global average, head."""
    return nn.Sequential(
        nn.Conv2d(2, channels, size, padding=1), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(channels, 3),
    )  # fmt: skip


def norm(channels=4, affine=True):
    return nn.BatchNorm2d(channels, track_running_stats=False, affine=affine)


NETWORKS = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "mlp": (lambda: MLP(width=7).build((4,), 3), (4,)),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3)),
        (4,),
    ),
    "tanh and sigmoid": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Sigmoid(),
                              nn.Linear(5, 3)), (4,)),
    "leaky": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.2), nn.Linear(6, 3)), (4,)),
    "identity and dropout of 0": (
        lambda: nn.Sequential(nn.Identity(), nn.Linear(4, 6), nn.Dropout(0.0), nn.ReLU(),
                              nn.Linear(6, 3)), (4,)),
    "tied": (Tied, (4,)),
    "flatten first": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (2, 2, 3)),
    "conv": (lambda: image_net(), (2, 5, 6)),
    "strided, dilated": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, (2, 3), stride=(2, 1), padding=(1, 0),
                                        dilation=(1, 2)), nn.Tanh(), nn.Flatten(),
                              nn.Linear(4 * 4 * 3, 3)), (2, 6, 7)),
    "norm alone": (lambda: image_net(norm()), (2, 5, 6)),
    "norm without parameters": (lambda: image_net(norm(affine=False)), (2, 5, 6)),
    "norm, relu": (lambda: image_net(norm(), nn.ReLU()), (2, 5, 6)),
    "norm, leaky, pool": (lambda: image_net(norm(), nn.LeakyReLU(0.1), nn.MaxPool2d(2)), (2, 7, 5)),
    "norm, relu, pool of 3": (lambda: image_net(norm(), nn.ReLU(), nn.MaxPool2d(3)), (2, 8, 7)),
    "overlapping pool": (
        lambda: image_net(norm(), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True)), (2, 8, 7)),
    "pool alone": (lambda: image_net(nn.MaxPool2d(2), nn.Tanh()), (2, 7, 5)),
    "norm, tanh": (lambda: image_net(norm(), nn.Tanh()), (2, 5, 6)),
    "two norms": (lambda: image_net(norm(), norm(), nn.ReLU()), (2, 5, 6)),
    "residual": (lambda: image_net(Residual(4), Residual(4)), (2, 5, 6)),
    "conv4": (lambda: Conv4(filters=4).build((1, 28, 28), 3), (1, 28, 28)),
    "conv4, odd": (lambda: Conv4(filters=4).build((3, 21, 30), 3), (3, 21, 30)),
    "conv4, pool first": (
        lambda: Conv4(filters=4, downsample="pool-first", affine=False).build((3, 21, 30), 3),
        (3, 21, 30)),
    "conv4, strided": (
        lambda: Conv4(filters=4, downsample="stride").build((1, 28, 28), 3), (1, 28, 28)),
    "conv4, no norm": (lambda: Conv4(filters=4, norm="none").build((1, 20, 20), 3), (1, 20, 20)),
    "conv4, 16 filters": (lambda: Conv4(filters=16).build((1, 28, 28), 3), (1, 28, 28)),
    "conv4, 32 filters, odd": (lambda: Conv4(filters=32).build((3, 21, 30), 3), (3, 21, 30)),
    "resnet12, 16 and 32": (
        lambda: ResNet12((16, 16, 32, 32)).build((3, 20, 24), 3), (3, 20, 24)),
    "resnet12": (lambda: ResNet12((4, 5, 6, 7)).build((3, 20, 24), 3), (3, 20, 24)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_double_backward_s(kernels, name):
    torch.manual_seed(5)
    build, in_shape = NETWORKS[name]
    agree(build(), in_shape)


@pytest.mark.parametrize(
    "name", ["mlp", "conv4", "conv4, 16 filters", "resnet12", "norm, leaky, pool"]
)
def test_float32_is_float64_to_its_precision(kernels, name):
    torch.manual_seed(6)
    build, in_shape = NETWORKS[name]
    agree(build(), in_shape, dtype=torch.float32)


def test_raw_pixels_in_float32(kernels):
    """Inputs of 0..255 with a large mean: the variance must not cancel."""
    torch.manual_seed(6)
    x = 200 + 20 * torch.rand(2, 5, 3, 21, 21)
    agree(Conv4(filters=4).build((3, 21, 21), 3), (3, 21, 21), dtype=torch.float32, x=x)


@pytest.mark.parametrize("N", [1, 2, 40])
def test_one_image_and_many(kernels, N):
    torch.manual_seed(7)
    agree(image_net(norm(), nn.ReLU(), nn.MaxPool2d(2)), (2, 6, 6), N=N)


@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss, F.l1_loss, nn.MSELoss()])
def test_any_loss(loss):
    torch.manual_seed(8)
    agree(MLP(width=6).build((4,), 2), (4,), loss=loss, out=2)
    label_smoothing = nn.CrossEntropyLoss(label_smoothing=0.1)
    model = MLP(width=6).build((4,), 3).double()
    x, y = torch.randn(2, 5, 4, dtype=torch.float64), torch.randint(0, 3, (2, 5))
    phi = initial_parameters(model) + torch.zeros(2, 1, 1, dtype=torch.float64)
    V = torch.randn(2, 1, phi.shape[-1], dtype=torch.float64)
    found, wanted = (
        placed(e(model, label_smoothing).curvature(x, y), phi).hvp([0], V)
        for e in (AnalyticEngine, AutogradEngine)
    )
    assert relative(found, wanted) < 1e-10


def ties(seed):
    """Flat patches: windows whose entries are all equal, and pre-activations that are exactly 0."""
    torch.manual_seed(seed)
    x = torch.randint(0, 2, (2, 4, 2, 4, 4)).double()
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.mark.parametrize("layers", [
    [norm(), nn.ReLU(), nn.MaxPool2d(2)],
    [nn.ReLU(), nn.MaxPool2d(2)],
    [nn.MaxPool2d(2), nn.ReLU()],
    [norm(), nn.LeakyReLU(0.1), nn.MaxPool2d(2)],
])  # fmt: skip
@pytest.mark.parametrize("gamma", [1.0, -1.0, 0.0])
def test_ties_go_where_torch_sends_them(kernels, layers, gamma):
    model = image_net(*layers, size=1).double()
    model[0] = nn.Conv2d(2, 4, 1).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, -1], [0, 0]])[:, :, None, None])
        model[0].bias.zero_()
        if isinstance(model[1], nn.BatchNorm2d):
            model[1].weight.fill_(gamma)
            model[1].bias.fill_(0.3 if gamma == 0 else 0.0)
    x = ties(3)
    y = torch.randint(0, 3, (2, 4))
    phi = initial_parameters(model).expand(2, 1, -1)
    V = torch.randn(2, 1, phi.shape[-1], dtype=torch.float64)
    results = []
    for engine in (AnalyticEngine, AutogradEngine):
        at = engine(model, F.cross_entropy).curvature(x, y)
        results.append((at.gradient(phi[:, 0], 0, True)[1], at.hvp([0], V)))
    for found, wanted in zip(*results, strict=True):
        assert relative(found, wanted) < 1e-9


# What is not known ------------------------------------------------------------------------------
