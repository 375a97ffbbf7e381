"""What can fail on a GPU and shows without one: devices that mix, values read back by the host.

The layer algebra runs on torch's fake CUDA tensors, which have shapes and devices but no values:
what the host asks of a value raises, as it would while a CUDA graph is recorded, and so does what
has no deterministic algorithm there. torch's backward passes need a driver even there, so the
autograd engine runs on tensors of the CPU that are said to be the device's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from fake_gpu import MODELS, B, K, NoReads, Ordered, batch_of, made, meta_gradient, on_fake_gpu
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from binomctl.adapt import adapt_and_validate, estimate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.problem.build import build_problem
from binomctl.settings import registry
from binomctl.settings.layers import load_config
from binomctl.training.step import _run

aten = torch.ops.aten
RECORDED = [("maml", {}), ("fomaml", {}), ("trunc", {"L": 2}), ("binom", {"L": 2}),
            ("hybrid", {"L": 1, "C": 2}), ("reptile", {})]  # fmt: skip


@pytest.mark.parametrize("estimator", RECORDED, ids=lambda e: e[0])
@pytest.mark.parametrize("kind", MODELS)
def test_the_layer_algebra_stays_on_the_gpu(kind, estimator):
    with FakeTensorMode(), NoReads(), Ordered(), torch.no_grad():
        model = on_fake_gpu(made(kind))
        loss = F.mse_loss if kind == "mlp" else F.cross_entropy
        engine = AnalyticEngine(model, loss)
        g = meta_gradient(engine, model, *estimator, batch_of(kind, "cuda"), "cuda")
        assert g.device.type == "cuda"
        assert g.shape == (B, engine.layout.d)


@pytest.mark.parametrize(
    "how",
    [{"conv": "grouped"}, {"conv": "products"}, {"memory": "recompute"}, {"order": "rows"},
     {"chunk": 1}],
    ids=lambda how: "-".join(map(str, how.values())),
)  # fmt: skip
def test_every_way_of_the_layer_algebra_does(how):
    with FakeTensorMode(), NoReads(), Ordered(), torch.no_grad():
        model = on_fake_gpu(made("conv4"))
        engine = AnalyticEngine(model, F.cross_entropy, **how)
        g = meta_gradient(engine, model, "binom", {"L": 2}, batch_of("conv4", "cuda"), "cuda")
        assert g.device.type == "cuda"


def test_a_read_is_seen():
    """Of the test itself: what it looks for raises."""
    with FakeTensorMode(), NoReads():
        x = torch.ones(3, device="cuda")
        for read in (lambda: x.sum().item(), lambda: x.cpu(), lambda: bool((x > 0).all()),
                     lambda: x[x > 0], lambda: x + torch.ones(3)):  # fmt: skip
            with pytest.raises((AssertionError, RuntimeError)):
                read()


def test_what_has_no_deterministic_algorithm_is_seen():
    """Of the test itself, forwards and backwards."""
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    with Ordered():
        pooled = F.adaptive_avg_pool2d(x, 2).sum()
        for refused in (pooled.backward, lambda: x.detach().median(-1), lambda: F.max_unpool2d(
            x.detach(), torch.zeros(1, 2, 4, 4, dtype=torch.long), 2)):  # fmt: skip
            with pytest.raises(AssertionError, match="in any order"):
                refused()


@pytest.mark.parametrize("dataset", ["sinusoid", "glyphs"])
def test_a_training_step_stays_on_the_gpu(dataset):
    """The whole of what a CUDA graph records."""
    small = {"model.filters": 16} if dataset == "glyphs" else {}
    keys = {"dataset.name": dataset, "engine.convolution": "blocks", "training.meta_batch": B}
    problem = build_problem(load_config(overrides=keys | small)[0])
    loss = F.mse_loss if dataset == "sinusoid" else F.cross_entropy
    with FakeTensorMode(), NoReads(), Ordered(), torch.no_grad():
        model = on_fake_gpu(made("mlp" if dataset == "sinusoid" else "conv4"))
        theta = torch.cat([p.detach().flatten() for p in model.parameters()])
        m = torch.empty(0, device="cuda")
        there = replace(problem, engine=AnalyticEngine(model, loss), theta=theta, m=m)
        batch = batch_of("mlp" if dataset == "sinusoid" else "conv4", "cuda")
        found = _run(there, theta, there.adaptation(batch, m, step=0), batch, None)
        rows = found.per_task[0]
        assert rows.device.type == "cuda"
        assert found.loss.device.type == "cuda"


class Pretended(TorchDispatchMode):
    """Tensors of the CPU that are said to be the device's, and whatever is made of them; an
    operation on one of these and on another, which is not a number, raises as on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.there: set[int] = set()  # storages: autograd saves tensors and forgets their objects

    def put(self, t: Tensor) -> None:
        self.there.add(t.untyped_storage()._cdata)

    def has(self, t: Tensor) -> bool:
        return t.untyped_storage()._cdata in self.there

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        there = [t for t in tensors if self.has(t)]
        here = [t for t in tensors if not self.has(t) and t.dim() > 0]
        if there and here and func not in (aten.copy_.default, aten.index.Tensor):
            shapes = [tuple(t.shape) for t in here]
            raise AssertionError(f"{func} mixes devices: {shapes} are the host's")
        out = func(*args, **kwargs)
        # What torch makes of nothing in its own backward passes it makes on the tensors' device.
        said = there or torch._C._current_graph_task_id() != -1
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and said:
                self.put(t)
            elif isinstance(t, Tensor):  # where one of the device's may have lain
                self.there.discard(t.untyped_storage()._cdata)
        return out


@contextmanager
def pretending(*inputs: Tensor) -> Iterator[Pretended]:
    mode = Pretended()
    for t in inputs:
        mode.put(t)
    with mode:
        yield mode


@pytest.mark.parametrize("batching", ["loop", "alone"])
@pytest.mark.parametrize("kind", ["mlp", "conv4"])
def test_autograd_mixes_no_devices(kind, batching):
    model = made(kind)
    loss = F.mse_loss if kind == "mlp" else F.cross_entropy
    engine = AutogradEngine(model, loss, batching=batching, threads=1)
    batch = batch_of(kind, "cpu")
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, 0.01, rule, torch.empty(0), engine.layout)
    sets = (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
    network = engine.network.module if hasattr(engine, "network") else model
    owned = [*network.parameters(), *network.buffers()]
    with pretending(theta, *sets, *owned) as mode, Ordered():
        for name, options in (("maml", {}), ("binom", {"L": 2}), ("imaml", {"L": 3})):
            estimator = registry.create("estimator", name, options)
            adapted, _, _ = adapt_and_validate(engine, theta, batch, how, estimator.steps(K))
            assert mode.has(estimate(estimator, adapted).theta)


def test_a_mixed_operation_is_seen():
    x = torch.ones(3)
    with pretending(x) as mode:
        assert mode.has(2 * x)
        with pytest.raises(AssertionError, match="mixes devices"):
            x + torch.ones(3)
