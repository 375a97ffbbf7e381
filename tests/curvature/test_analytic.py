"""The layer algebra against double backward in float64: layers, networks, schedules, refusals."""

from __future__ import annotations

import functools
import itertools
import logging
import platform

import pytest
import torch
from command import in_a_process
from dense_oracle import flat_loss, inner_loop, placed, product, subset_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine, choose_engine
from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.block import Block
from binomctl.curvature.analytic.conv import Conv
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.analytic.layers import Cache, Norm
from binomctl.curvature.analytic.norm_block import NormBlock, Pool
from binomctl.curvature.analytic.recognise import Unsupported, recognise
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError
from binomctl.flat import initial_parameters
from binomctl.models.conv4 import Conv4
from binomctl.models.mlp import MLP
from binomctl.models.resnet12 import ResNet12
from binomctl.settings import registry

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


@pytest.fixture(params=["native", "torch"])
def kernels(request, monkeypatch):
    """Batch-norm blocks by compiled kernels, and by torch operations."""
    if request.param == "torch":
        monkeypatch.setattr(native, "lanes", lambda: 0)
    else:
        assert native.lanes() > 0, "no C compiler here, or the kernels do not compile"
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


NARROWER = [(), ("-mno-avx512f",), ("-mno-avx512f", "-mno-avx")]


@pytest.mark.parametrize("flags", NARROWER, ids=["native", "256 bits", "128 bits"])
def test_blocks_say_what_the_layers_say(flags, monkeypatch):
    """The kernels against the torch operations, whatever varies and whatever is wanted."""
    if flags and platform.machine() != "x86_64":
        pytest.skip("narrower vectors are tested on x86_64 alone")
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, *flags))
    native._library.cache_clear()
    try:
        assert native.lanes() > 0, "no C compiler here, or the kernels do not compile"
        check_blocks(20 if flags else 150)
    finally:
        native._library.cache_clear()


def check_blocks(examples):
    @given(
        T=st.integers(1, 3), N=st.integers(1, 3), H=st.integers(1, 19), W=st.integers(1, 19),
        I=st.sampled_from([0, 1, 3, 16]), C=st.sampled_from([1, 5, 16, 20, 32, 48, 64]),
        k=st.integers(1, 3), slope=st.sampled_from([0.0, 0.1, 1.0]),
        fixed=st.sets(st.sampled_from(["weight", "gamma", "beta", "input"])),
        seed=st.integers(0, 999),
    )  # fmt: skip
    @settings(max_examples=examples, deadline=None)
    def check(T, N, H, W, I, C, k, slope, fixed, seed):
        if k > min(H, W) or N * H * W == 1 or (I and C % native.lanes()):
            return
        torch.manual_seed(seed)
        norm_block = NormBlock(1e-5, slope, Pool((k, k), (k, k)))
        shapes = {"gamma": (C,), "beta": (C,)}
        if I:
            shapes |= {"weight": (C, I, 3, 3), "bias": (C,)}
        p, tp = (
            {n: torch.randn(T, *shape, dtype=torch.float64) for n, shape in shapes.items()}
            for _ in range(2)
        )
        tp = {n: v for n, v in tp.items() if n not in fixed}
        varies = I in (0, 16) and "input" not in fixed
        x, tx = torch.randn(2, T, N, H, W, I or C, dtype=torch.float64)
        ga, tga = torch.randn(2, T, N, H // k, W // k, C, dtype=torch.float64)
        given_ = (p, tp, x, tx if varies else None, ga, tga, [varies or not I])
        conv = Conv(padding=(1, 1), bias=False) if I else Same()
        wanted = maps_of_layers(conv, Norm(norm_block), *given_)
        found = maps_of_block(Block(norm_block, bool(I)), *given_)
        for one, two in zip(leaves(found), leaves(wanted), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-9)

    check()


def maps_of_block(block, p, tp, x, tx, ga, tga, wanted):
    cache = Cache()
    return [
        block.forward(p, [x], cache),
        block.backward(p, cache, ga, wanted),
        block.tangent(p, tp, cache, [tx]),
        block.tangent_backward(p, tp, cache, ga, tga, wanted),
    ]


def maps_of_layers(conv, norm, p, tp, x, tx, ga, tga, wanted):
    roles = {"weight": "gamma", "bias": "beta"}
    mine, along = ({r: v[n] for r, n in roles.items() if n in v} for v in (p, tp))
    at_conv, at_norm = Cache(), Cache()
    a = norm.forward(mine, [conv.forward(p, [x], at_conv)], at_norm)
    (gz,), g_norm = norm.backward(mine, at_norm, ga, [True])
    gx, g_conv = conv.backward(p, at_conv, gz, wanted)
    ta = norm.tangent(mine, along, at_norm, [conv.tangent(p, tp, at_conv, [tx])])
    (tgz,), tg_norm = norm.tangent_backward(mine, along, at_norm, ga, tga, [True])
    tgx, tg_conv = conv.tangent_backward(p, tp, at_conv, gz, tgz, wanted)

    def named(of_conv, of_norm):
        return of_conv | {n: of_norm[r] for r, n in roles.items()}

    return [a, (gx, named(g_conv, g_norm)), ta, (tgx, named(tg_conv, tg_norm))]


class Same:
    """No convolution in front: the maps of the identity."""

    def forward(self, p, xs, cache):
        return xs[0]

    def backward(self, p, cache, gy, wanted):
        return [gy], {}

    def tangent(self, p, tp, cache, txs):
        return txs[0]

    def tangent_backward(self, p, tp, cache, gy, tgy, wanted):
        return [tgy], {}


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        return [t for name in sorted(tree) for t in leaves(tree[name])]
    return [t for part in tree if part is not None for t in leaves(part)]


# Schedules --------------------------------------------------------------------------------------

SCHEDULES = [
    {},
    {"memory": "recompute"},
    {"order": "columns"},
    {"order": "columns", "memory": "recompute"},
    {"chunk": 3},
    {"threads": 1},
    {"threads": 2},
    {"chunk": 3, "order": "columns"},
    {"conv": "per-task"},
    {"conv": "together"},
    {"conv": "grouped"},
    {"conv": "products"},
    {"conv": "per-task", "order": "columns", "memory": "recompute", "chunk": 2},
    {"conv": "grouped", "order": "columns"},
    {"conv": "products", "order": "columns", "memory": "recompute"},
]


@functools.cache
def small_case(kind):
    """A model, its batch, and every task's dense Hessians and query gradient."""
    torch.manual_seed(3)
    B, K = (3, 4) if kind != "blocks" else (2, 3)
    if kind == "mlp":
        model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        x = torch.randn(2, B, 5, 2, dtype=torch.float64)
        y, loss, alpha = torch.randn(B, 5, 1, dtype=torch.float64), F.mse_loss, 0.2
    elif kind == "conv4":
        model = Conv4(filters=2).build((1, 16, 16), 3).double()
        x = torch.randn(2, B, 6, 1, 16, 16, dtype=torch.float64)
        y, loss, alpha = torch.arange(3).repeat(2).expand(B, -1), F.cross_entropy, 0.05
    else:  # channels that fill vectors, so that whole blocks are kernels
        layers = []
        for channels in (1, 16):
            convolution = nn.Conv2d(channels, 16, 3, padding=1, bias=channels > 1)
            layers += [convolution, norm(16), nn.ReLU(), nn.MaxPool2d(2)]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)).double()
        x = torch.randn(2, B, 4, 1, 5, 5, dtype=torch.float64)
        y, loss, alpha = torch.tensor([0, 1, 2, 0]).expand(B, -1), F.cross_entropy, 0.05
    theta = initial_parameters(model)
    oracle = [
        inner_loop(flat_loss(model, loss, x[0, b], y[b]), flat_loss(model, loss, x[1, b], y[b]),
                   theta, K, alpha) for b in range(B)
    ]  # fmt: skip
    return model, loss, EpisodeBatch(x[0], y, x[1], y), theta, K, alpha, oracle


@pytest.mark.parametrize("options", SCHEDULES, ids=str)
@pytest.mark.parametrize("kind", ["mlp", "conv4", "blocks"])
def test_every_estimator_meets_the_dense_oracle_under_every_schedule(kind, options):
    model, loss, batch, theta, K, alpha, oracle = small_case(kind)
    engine = AnalyticEngine(model, loss, **options)
    kernels = sum(isinstance(node.layer, Block) for node in engine.program.nodes)
    assert kind != "blocks" or kernels == (2 if options.get("conv", "blocks") == "blocks" else 0)
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, alpha, rule, rule.initial(engine.layout), engine.layout)
    for name, estimator_options, expected in (
        ("maml", {}, lambda H, g: product(H, g, K, alpha)),
        ("fomaml", {}, lambda H, g: g),
        ("trunc", {"L": 2}, lambda H, g: product(H, g, 2, alpha)),
        ("binom", {"L": 2}, lambda H, g: subset_sum(H, g, 2, K, alpha)),
        ("binom", {"L": 3}, lambda H, g: subset_sum(H, g, 3, K, alpha)),
        ("hybrid", {"L": 1, "C": 3}, lambda H, g: subset_sum(H, g, 1, 3, alpha)),
    ):
        estimator = registry.create("estimator", name, estimator_options)
        adapted, _, _ = adapt_and_validate(engine, theta, batch, how, estimator.steps(K))
        found = estimator.meta_gradient(adapted)
        wanted = torch.stack([expected(H, g) for H, g in oracle])
        assert relative(found, wanted) <= 1e-10, name


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_numbers_to_the_last_bit(threads):
    """Doing it twice, storing or recomputing: nothing changes, whoever works beside whom."""
    torch.manual_seed(4)
    model = Conv4(filters=4).build((1, 28, 28), 3)
    x, y = torch.randn(3, 6, 1, 28, 28), torch.arange(3).repeat(2).expand(3, -1)
    phi = initial_parameters(model).expand(3, 2, -1)
    V = torch.randn(3, 2, phi.shape[-1])
    results = []
    for memory in ("store", "store", "recompute"):
        engine = AnalyticEngine(model, F.cross_entropy, threads=threads, memory=memory)
        at = engine.curvature(x, y)
        at.place(1, phi[:, 1])
        results.append((at.gradient(phi[:, 0], 0, True)[1], at.hvp([0, 1], V)))
    for one, two in itertools.pairwise(results):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


@pytest.mark.parametrize("make", [AnalyticEngine, AutogradEngine])
@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_products_are_those_of_the_point_that_was_given_last(make, memory):
    torch.manual_seed(6)
    model = MLP(width=6).build((4,), 2).double()
    x, y = torch.randn(2, 5, 4, dtype=torch.float64), torch.randn(2, 5, 2, dtype=torch.float64)
    here = initial_parameters(model).expand(2, -1)
    there, V = here + 0.3 * torch.randn_like(here), torch.randn_like(here).unsqueeze(1)
    at = make(model, F.mse_loss, memory=memory).curvature(x, y)
    at.gradient(here, 0, True)
    one = at.hvp([0], V)
    at.place(0, there)
    two = at.hvp([0], V)
    for b, (found, phi) in itertools.product(range(2), ((one, here), (two, there))):
        H = torch.autograd.functional.hessian(flat_loss(model, F.mse_loss, x[b], y[b]), phi[b])
        torch.testing.assert_close(found[b, 0], H @ V[b, 0], rtol=1e-10, atol=1e-12)


def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(4)
    model = Conv4(filters=16).build((1, 28, 28), 3)
    x, y = torch.randn(3, 30, 1, 28, 28), torch.arange(3).repeat(10).expand(3, -1)
    phi = initial_parameters(model).expand(3, 1, -1)
    V = torch.randn(3, 1, phi.shape[-1])
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            at = AnalyticEngine(model, F.cross_entropy, conv="blocks").curvature(x, y)
            results.append((at.gradient(phi[:, 0], 0, True)[1], at.hvp([0], V)))
    finally:
        torch.set_num_threads(before)
    for one, two in itertools.pairwise(results):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


def test_the_first_layer_keeps_no_input_gradient_and_the_query_no_cache():
    model = Conv4(filters=2).build((1, 16, 16), 3)
    engine = AnalyticEngine(model, F.cross_entropy)
    x, y = torch.randn(1, 3, 1, 16, 16), torch.tensor([[0, 1, 2]])
    phi = initial_parameters(model).unsqueeze(0)
    _, _, hessian = engine.linearise(phi, x.movedim(2, -1), y, keep=False)
    assert all(cache.primal is None for cache in hessian.point.caches)


# What is not known ------------------------------------------------------------------------------


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x) if x.sum() > 0 else self.head(-x)


class Lookalike(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x)


UNKNOWN = {
    "GELU at '1'": lambda: nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3)),
    "Dropout at '1' draws": lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
    "uses running statistics": lambda: image_net(nn.BatchNorm2d(4)),
    "groups": lambda: image_net(nn.Conv2d(4, 4, 3, padding=1, groups=2)),
    "padding by name": lambda: image_net(nn.Conv2d(4, 4, 3, padding="same")),
    "not of zeros": lambda: image_net(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    "negative slope": lambda: nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(-0.1)),
    "cannot be traced": Branches,
    "0.weight": lambda: nn.Sequential(Lookalike(4, 3)),
    "does not depend on parameter 'spare": Unused,
    "LayerNorm": lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
}


@pytest.mark.parametrize("words", UNKNOWN)
def test_what_is_not_known_is_refused_by_name(words):
    with pytest.raises(Unsupported, match=words):
        recognise(UNKNOWN[words]())


class Centred(nn.Module):
    """Its gradients are not those of its outputs, which no trace shows."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        out = self.head(x)
        with torch.no_grad():
            centre = out.mean(0)
        return out - centre


def test_a_network_that_is_read_wrongly_is_found_out_and_left_to_autograd(caplog):
    x = torch.randn(4, 5)
    with caplog.at_level(logging.DEBUG, "binomctl"):
        engine = choose_engine(Centred(), F.mse_loss, x)
    assert isinstance(engine, AutogradEngine)
    assert "autograd engine:" in caplog.text
    with pytest.raises(ConfigError, match="the analytic engine cannot compute"):
        choose_engine(Centred(), F.mse_loss, x, kind="analytic")


def test_the_engine_is_chosen_by_the_network(caplog):
    conv4, x = Conv4(filters=2).build((1, 16, 16), 3), torch.rand(3, 1, 16, 16)
    assert isinstance(choose_engine(conv4, F.cross_entropy, x), AnalyticEngine)
    assert isinstance(choose_engine(conv4, F.cross_entropy, x, kind="autograd"), AutogradEngine)
    gelu = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3))
    assert isinstance(choose_engine(gelu, F.cross_entropy, torch.rand(3, 4)), AnalyticEngine)
    hooked = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3))
    hooked[1].register_forward_hook(lambda module, args, out: out.detach())
    with caplog.at_level(logging.DEBUG, "binomctl"):
        engine = choose_engine(hooked, F.cross_entropy, torch.rand(3, 4))
    assert isinstance(engine, AutogradEngine)
    assert "values are detached" in caplog.text
    half = conv4.half()
    with pytest.raises(ConfigError, match=r"parameters of type torch.float16"):
        choose_engine(half, F.cross_entropy, x.half(), kind="analytic")
    with pytest.raises(ConfigError, match=r"batch norm on constants"):
        choose_engine(conv4.float(), F.cross_entropy, x, kind="analytic", statistics=lambda k: {})


def test_from_the_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(256, 8), nn.GELU(), nn.Linear(8, 3))\n"
        "    def forward(self, x):\n"
        "        out = super().forward(x)\n"
        "        return out - out.detach().mean(0)\n"
    )
    command = [
        "train", "--steps", "1", "--ways", "3", "--meta-batch",
        "2", "--set", "dataset.image_size=16", "--set", "training.validation_tasks=2",
        "--set", "model.import=mine:Net",
    ]  # fmt: skip
    done = in_a_process(*command, "--engine", "analytic", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "values are detached inside forward" in done.stderr
    assert "Traceback" not in done.stderr
    done = in_a_process(*command, "--engine", "auto", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_the_library_s_door_takes_an_engine():
    torch.manual_seed(1)
    model = MLP(width=5).build((2,), 1).double()
    x, y = torch.randn(2, 2, 4, 2, dtype=torch.float64), torch.randn(2, 2, 4, 1).double()
    episodes = (x[0], y[0], x[1], y[1])
    one, two = (
        binomctl.meta_gradient(model, F.mse_loss, episodes, L=2, engine=e)
        for e in ("analytic", "autograd")
    )
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-10, atol=1e-12)
    with pytest.raises(ConfigError, match="Did you mean 'analytic'"):
        binomctl.meta_gradient(model, F.mse_loss, episodes, engine="analitic")


def test_without_a_compiler_the_torch_operations_serve(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "no-such-compiler")
    native._library.cache_clear()
    try:
        with caplog.at_level(logging.DEBUG, "binomctl"):
            assert native.lanes() == 0
        assert "no C compiler" in caplog.text
        agree(image_net(norm(), nn.ReLU(), nn.MaxPool2d(2)), (2, 6, 6))
    finally:
        native._library.cache_clear()
