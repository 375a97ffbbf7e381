"""Linear layers and ReLUs in a row, a native call a pass, against torch's autograd in float64."""

from __future__ import annotations

import itertools
import platform

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from binomctl.adapt import adapt
from binomctl.contracts import Adaptation, Adapted, Expansion, PullsBack
from binomctl.contracts.abilities import has
from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.chain_curvature import ChainCurvature
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.errors import ConfigError
from binomctl.expansion import binomial_expansion, deflated
from binomctl.settings import registry

if not native.available(torch.zeros(1), "chain"):
    pytest.skip("no C compiler: there are no native passes", allow_module_level=True)

B = 3
NETWORKS = {
    "perceptron": lambda: nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(),
                                        nn.Linear(40, 2)),
    "one layer": lambda: nn.Linear(5, 3),
    "no biases": lambda: nn.Sequential(nn.Linear(7, 33, bias=False), nn.LeakyReLU(0.2),
                                       nn.Linear(33, 4, bias=False)),
    "two in a row, a ReLU last": lambda: nn.Sequential(
        nn.Linear(3, 17), nn.Linear(17, 9), nn.ReLU(), nn.Linear(9, 3), nn.LeakyReLU(0.3)),
    "wide": lambda: nn.Sequential(nn.Linear(20, 130), nn.ReLU(), nn.Linear(130, 6)),
    "deep": lambda: nn.Sequential(*itertools.chain(*((nn.Linear(6, 6), nn.ReLU())
                                                     for _ in range(16)))),
}  # fmt: skip
LOSSES = {
    "squared error": F.mse_loss, "squared error, sum": nn.MSELoss(reduction="sum"),
    "cross-entropy": F.cross_entropy, "cross-entropy, sum": nn.CrossEntropyLoss(reduction="sum"),
    "one label ignored": nn.CrossEntropyLoss(ignore_index=1),
}  # fmt: skip


def data(model: nn.Module, loss: object, N: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    x = torch.randn(B, N, linears[0].in_features, dtype=dtype)
    out = linears[-1].out_features
    labels = loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)
    return x, torch.randint(out, (B, N)) if labels else torch.randn(B, N, out, dtype=dtype)


def points(model: nn.Module, dtype: torch.dtype) -> Tensor:
    flat = torch.cat([p.detach().flatten() for p in model.parameters()]).to(dtype)
    return flat + 0.1 * torch.randn(B, len(flat), dtype=dtype)


def dense(model: nn.Module, loss, phi: Tensor, x: Tensor, y: Tensor, v: Tensor):
    """Loss, gradient, outputs and H v of one task by double backward in float64."""
    model = model.double()
    sizes = [p.numel() for p in model.parameters()]
    at = phi.double().requires_grad_()
    parts = zip(at.split(sizes), model.named_parameters(), strict=True)
    named = {name: part.view(p.shape) for part, (name, p) in parts}
    output = functional_call(model, named, x.double())
    value = loss(output, y if y.dtype == torch.long else y.double())
    (g,) = torch.autograd.grad(value, at, create_graph=True)
    product = torch.zeros_like(g)
    if g.requires_grad:
        (product,) = torch.autograd.grad(g, at, v.double())
    return value.detach(), g.detach(), output.detach(), product


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-30))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float", "double"])
@pytest.mark.parametrize("N", [1, 5, 26])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_losses_gradients_outputs_and_products(network, loss, N, dtype):
    torch.manual_seed(0)
    model, function = NETWORKS[network](), LOSSES[loss]
    x, y = data(model, function, N, dtype)
    if loss == "one label ignored":
        y[:, 0] = 0  # one counts
    phi = points(model, dtype)
    V = torch.randn(B, 3, phi.shape[1], dtype=dtype)
    engine = AnalyticEngine(model.to(dtype), function)
    assert engine.native
    curvature = engine.curvature(x, y)
    assert isinstance(curvature, ChainCurvature)
    losses, gradient = curvature.gradient(phi, 0, keep=True)
    products = curvature.hvp([0, 0, 0], V)
    again = engine.query(phi, x, y)
    for found, wanted in zip(again[:2], (losses, gradient), strict=True):
        assert torch.equal(found, wanted)
    small = 1e-13 if dtype == torch.float64 else 1e-5
    for b in range(B):
        value, g, output, _ = dense(model, function, phi[b], x[b], y[b], V[b, 0])
        assert off(losses[b], value) < small
        assert off(gradient[b], g) < small
        assert off(again[2][b], output) < small
        for p in range(3):
            product = dense(model, function, phi[b], x[b], y[b], V[b, p])[3]
            if product.norm() > 0:
                assert off(products[b, p], product) < 10 * small
            else:
                assert not products[b, p].any()


@pytest.mark.parametrize("flags", ["-mno-avx512f", "-mno-avx", "-DPORTABLE"])
def test_narrower_machines_and_other_compilers_say_the_same(flags, monkeypatch):
    if flags != "-DPORTABLE" and platform.machine() != "x86_64":
        pytest.skip("narrower vectors are tested on x86_64 alone")
    more = ("-mno-avx512f", flags) if flags == "-mno-avx" else (flags,)
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, *more))
    native._library.cache_clear()
    try:
        assert native.available(torch.zeros(1), "chain"), "the kernels do not compile"
        for network in NETWORKS:
            for dtype in (torch.float32, torch.float64):
                test_losses_gradients_outputs_and_products(network, "cross-entropy", 5, dtype)
    finally:
        native._library.cache_clear()


@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_an_inner_loop_in_one_call_is_the_one_step_by_step(memory):
    torch.manual_seed(1)
    model = NETWORKS["perceptron"]().double()
    x, y = data(model, F.mse_loss, 10, torch.float64)
    engine = AnalyticEngine(model, F.mse_loss, memory=memory)
    theta = points(model, torch.float64)[0]
    rule = registry.create("rule", "gd", {})
    how = Adaptation(4, 0.05, rule, torch.empty(0), engine.layout)
    one = engine.curvature(x, y)
    path = adapt(one, theta, how, B, keep={2, 3})
    other, phi = engine.curvature(x, y), theta.expand(B, -1)
    for k in range(4):
        losses, gradient = other.gradient(phi, k, keep=True)
        torch.testing.assert_close(path.loss[:, k], losses, rtol=1e-14, atol=0)
        torch.testing.assert_close(path.phi[:, k], phi, rtol=1e-14, atol=1e-16)
        phi = phi - 0.05 * gradient
    torch.testing.assert_close(path.phi[:, 4], phi, rtol=1e-14, atol=1e-16)
    V = torch.randn(B, 4, len(theta), dtype=torch.float64)
    torch.testing.assert_close(one.hvp([3, 0, 2, 0], V), other.hvp([3, 0, 2, 0], V), rtol=1e-11,
                               atol=1e-13)  # fmt: skip


def test_images_are_flattened_in_torch_s_order():
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(2 * 3 * 4, 8), nn.ReLU(), nn.Linear(8, 5)
    ).double()
    x, y = torch.randn(B, 6, 2, 3, 4, dtype=torch.float64), torch.randint(5, (B, 6))
    engine = AnalyticEngine(model, F.cross_entropy, x=x[0])
    assert isinstance(engine.curvature(x, y), ChainCurvature)
    phi = points(model, torch.float64)
    _, gradient, _ = engine.query(phi, x, y)
    assert off(gradient[1], dense(model, F.cross_entropy, phi[1], x[1], y[1], phi[1])[1]) < 1e-13


@pytest.mark.parametrize("label", [-1, 2, 7])
def test_a_label_that_is_no_class_is_named(label):
    model = nn.Linear(3, 2)
    engine = AnalyticEngine(model, F.cross_entropy)
    y = torch.zeros(B, 4, dtype=torch.long)
    y[1, 2] = label
    with pytest.raises(ConfigError, match=r"labels from -?\d to \d for 2 outputs"):
        engine.query(points(model, torch.float32), torch.randn(B, 4, 3), y)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value):
    torch.manual_seed(3)
    model = NETWORKS["perceptron"]()
    x, y = data(model, F.mse_loss, 10, torch.float32)
    x[0, 0] = value
    engine = AnalyticEngine(model, F.mse_loss)
    losses, gradient, _ = engine.query(points(model, torch.float32), x, y)
    assert not losses[0].isfinite()
    assert not gradient[0].isfinite().all()
    assert losses[1:].isfinite().all()


def test_the_numbers_do_not_depend_on_how_many_threads_there_are():
    torch.manual_seed(4)
    model = NETWORKS["wide"]()
    x, y = data(model, F.mse_loss, 9, torch.float32)
    engine, phi = AnalyticEngine(model, F.mse_loss), points(model, torch.float32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(engine.query(phi, x, y)[1])
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    "network",
    [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
     nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)),
     nn.Sequential(nn.Linear(3, 600), nn.ReLU(), nn.Linear(600, 2))],
    ids=["tanh", "batch norm", "too wide"],
)  # fmt: skip
def test_other_networks_are_not_taken(network):
    assert not AnalyticEngine(network, F.mse_loss, x=torch.randn(5, 3)).native


def test_a_shared_weight_is_not_taken():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert not AnalyticEngine(model, F.mse_loss, x=torch.randn(5, 4)).native


def hessians(model: nn.Module, loss, path: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[K, d, d] of one task along path [K, d], a product with every unit vector."""
    eye = torch.eye(path.shape[1], dtype=torch.float64)
    return torch.stack(
        [torch.stack([dense(model, loss, phi, x, y, e)[3] for e in eye]) for phi in path]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float", "double"])
def test_an_expansion_in_one_call_is_the_sum_over_dense_hessians(dtype):
    torch.manual_seed(5)
    K, alpha = 5, 0.3
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    x, y = data(model, F.cross_entropy, 7, dtype)
    engine = AnalyticEngine(model.to(dtype), F.cross_entropy)
    theta = points(model, dtype)[0]
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, alpha, rule, torch.empty(0, dtype=dtype), engine.layout)
    curvature = engine.curvature(x, y)
    trajectory = adapt(curvature, theta, how, B, keep=range(K))
    g = torch.randn(B, len(theta), dtype=dtype)
    adapted = Adapted(trajectory, g, curvature)
    assert has(curvature, PullsBack)
    assert adapted.plain
    of = [hessians(model, F.cross_entropy, trajectory.phi[b].double(), x[b], y[b])
          for b in range(B)]  # fmt: skip
    small = 1e-12 if dtype == torch.float64 else 1e-5
    for C in range(1, K + 1):
        for L in range(1, C + 1):
            found = binomial_expansion(adapted, Expansion(L, C, alpha))
            for b in range(B):
                wanted = torch.zeros_like(theta, dtype=torch.float64)
                for j in range(L + 1):
                    for chosen in itertools.combinations(range(K - C, K), j):
                        term = g[b].double()
                        for k in reversed(chosen):
                            term = -alpha * of[b][k] @ term
                        wanted += term
                assert off(found[b], wanted) < small, (L, C)


def test_only_plain_steps_are_expanded_in_one_call():
    torch.manual_seed(6)
    model = NETWORKS["perceptron"]().double()
    x, y = data(model, F.mse_loss, 10, torch.float64)
    theta, g = points(model, torch.float64)[0], points(model, torch.float64)
    found = []
    for memory, rule in itertools.product(("store", "recompute"), ("gd", "meta-sgd")):
        engine = AnalyticEngine(model, F.mse_loss, memory=memory)
        made = registry.create("rule", rule, {})
        how = Adaptation(4, 0.05, made, made.initial(engine.layout).to(theta), engine.layout)
        curvature = engine.curvature(x, y)
        adapted = Adapted(adapt(curvature, theta, how, B, keep=range(4)), g, curvature)
        assert has(curvature, PullsBack) == (memory == "store")
        assert adapted.plain == (rule == "gd")
        found.append(binomial_expansion(adapted, Expansion(2, 4, 0.05)))
        left = deflated(adapted, 2)
        assert not left.plain
        found.append(binomial_expansion(left, Expansion(4, 4, 0.05)))
    for expansion, exact in zip(found[2::2], found[3::2], strict=True):
        torch.testing.assert_close(expansion, found[0], rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(exact, found[1], rtol=1e-9, atol=1e-12)
