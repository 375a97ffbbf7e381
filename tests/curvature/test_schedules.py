"""Every schedule of the layer algebra against the dense oracle, and to the last bit."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from dense_oracle import flat_loss, inner_loop, subset_sum
from test_analytic import norm, relative
from torch import nn
from torch.nn import functional as F

from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.block import Block
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.traits import threads_for
from binomctl.episodes import EpisodeBatch
from binomctl.flat import initial_parameters
from binomctl.machine.op_threads import kernel_threads
from binomctl.models.conv4 import Conv4
from binomctl.models.mlp import MLP
from binomctl.models.resnet12 import ResNet12
from binomctl.settings import registry

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
    B, K = {"blocks": (2, 3), "residual": (3, 3)}.get(kind, (3, 4))
    if kind == "mlp":
        model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        x = torch.randn(2, B, 5, 2, dtype=torch.float64)
        y, loss, alpha = torch.randn(B, 5, 1, dtype=torch.float64), F.mse_loss, 0.2
    elif kind == "conv4":
        model = Conv4(filters=2).build((1, 16, 16), 3).double()
        x = torch.randn(2, B, 6, 1, 16, 16, dtype=torch.float64)
        y, loss, alpha = torch.arange(3).repeat(2).expand(B, -1), F.cross_entropy, 0.05
    elif kind == "residual":  # kernels, single convolutions and sums in turn
        model = ResNet12(filters=(3, 2, 2, 2)).build((1, 16, 16), 3).double()
        x = torch.randn(2, B, 6, 1, 16, 16, dtype=torch.float64)
        y, loss, alpha = torch.arange(3).repeat(2).expand(B, -1), F.cross_entropy, 0.01
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
                   theta, K, alpha, dense=kind in ("mlp", "conv4")) for b in range(B)
    ]  # fmt: skip
    return model, loss, EpisodeBatch(x[0], y, x[1], y), theta, K, alpha, oracle


@pytest.mark.parametrize("options", SCHEDULES, ids=str)
@pytest.mark.parametrize("kind", ["mlp", "conv4", "blocks", "residual"])
def test_every_estimator_meets_the_dense_oracle_under_every_schedule(kind, options):
    model, loss, batch, theta, K, alpha, oracle = small_case(kind)
    engine = AnalyticEngine(model, loss, x=batch.x_trn[0], **options)
    kernels = sum(isinstance(node.layer, Block) for node in engine.program.nodes)
    assert kind != "blocks" or kernels == (2 if options.get("conv", "blocks") == "blocks" else 0)
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, alpha, rule, rule.initial(engine.layout), engine.layout)
    for name, estimator_options, expected in (
        ("maml", {}, lambda H, g: subset_sum(H, g, K, K, alpha)),
        ("fomaml", {}, lambda H, g: g),
        ("trunc", {"L": 2}, lambda H, g: subset_sum(H, g, 2, 2, alpha)),
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
    """Threads take tasks as a whole where these keep them busy, and parts of tasks otherwise."""
    torch.manual_seed(4)
    model = Conv4(filters=20).build((1, 28, 28), 3)
    x, y = torch.randn(3, 30, 1, 28, 28), torch.arange(3).repeat(10).expand(3, -1)
    phi = initial_parameters(model).expand(3, 1, -1)
    V = torch.randn(3, 1, phi.shape[-1])
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            at = AnalyticEngine(model, F.cross_entropy, conv="blocks").curvature(x, y)
            results.append((at.gradient(phi[:, 0], 0, True)[1], at.hvp([0], V)))
    finally:
        torch.set_num_threads(before)
    for one, two in itertools.pairwise(results):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


@pytest.mark.parametrize(
    ("model", "tasks", "alone"),
    [(Conv4(filters=16), 4, True), (Conv4(filters=16), 20_000, False),
     (ResNet12(filters=(16, 16, 16, 16)), 4, False), (MLP(width=6), 4, True)],
    ids=["Conv4", "Conv4, many tasks", "ResNet12", "MLP"],
)  # fmt: skip
def test_torch_s_threads_rest_where_kernels_do_the_work(model, tasks, alone):
    """Those of its operations spin for a while, on the cores of the kernels' helpers."""
    shape = (4,) if isinstance(model, MLP) else (1, 28, 28)
    x = torch.randn(6, *shape)
    engine = AnalyticEngine(model.build(shape, 3), F.cross_entropy, x=x)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(engine, tasks):
            assert torch.get_num_threads() == (1 if alone else 2)
            assert kernel_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("model", "tasks", "together"),
    [(ResNet12(filters=(16, 16, 16, 16)), 4, 1), (ResNet12(filters=(16, 16, 16, 16)), 1, 1),
     (ResNet12(filters=(16, 16, 16, 16)), 2, 2), (Conv4(filters=16), 4, 4)],
    ids=["ResNet12", "ResNet12, one task", "ResNet12, too few", "Conv4"],
)  # fmt: skip
def test_tasks_of_residual_networks_go_alone_where_they_keep_the_threads_busy(
    model, tasks, together
):
    network = model.build((1, 28, 28), 3)
    x = torch.randn(tasks, 6, 1, 28, 28)
    engine = AnalyticEngine(network, F.cross_entropy, x=x[0], threads=3)
    assert engine.chunks.size(x) == together


def test_a_network_without_convolutions_asks_for_none_of_their_kernels(monkeypatch):
    """On a new machine they would be compiled first."""
    asked, real = [], native.available
    monkeypatch.setattr(
        native, "available", lambda like, part="block": (asked.append(part), real(like, part))[1]
    )
    AnalyticEngine(MLP(width=6).build((4,), 3), F.cross_entropy)
    assert asked == ["chain"]


def test_the_first_layer_keeps_no_input_gradient_and_the_query_no_cache():
    model = Conv4(filters=2).build((1, 16, 16), 3)
    engine = AnalyticEngine(model, F.cross_entropy)
    x, y = torch.randn(1, 3, 1, 16, 16), torch.tensor([[0, 1, 2]])
    phi = initial_parameters(model).unsqueeze(0)
    _, _, hessian = engine.linearise(phi, x.movedim(2, -1), y, keep=False)
    assert all(cache.primal is None for cache in hessian.point.caches)
