"""What a call does to a stranger's module, what it keeps, and what it takes and refuses."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from pathlib import Path

import pytest
import torch
from dense_oracle import backpropagated, flat_loss
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import binomctl
from binomctl.curvature.network import Network, matrix_attention
from binomctl.errors import ConfigError

D = torch.float64


def tasks(*shape: int, B: int = 2, N: int = 6, M: int = 4, classes: int = 3):
    torch.manual_seed(1)
    x = [torch.randn(B, n, *shape, dtype=D) for n in (N, M)]
    y = [torch.randint(0, classes, (B, n)) for n in (N, M)]
    return x[0], y[0], x[1], y[1]


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def exact(model, episodes, K=2, alpha=0.3, loss=F.cross_entropy):
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    rows = []
    for x, y, xq, yq in zip(*episodes, strict=True):
        trn, val = flat_loss(model, loss, x, y), flat_loss(model, loss, xq, yq)
        rows.append(backpropagated(trn, val, theta, K, alpha))
    return torch.stack(rows).mean(0)


def flat(found):
    return torch.cat([g.reshape(-1) for g in found.values()])


@pytest.mark.promise(21, fault="hundreds of calls on two threads")
def test_calls_leave_no_thread_and_no_memory():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten(), nn.Linear(18, 3)).double()
    episodes = tasks(1, 5, 5)
    how = {"engine": "autograd", "batching": "loop", "K": 2}
    binomctl.meta_gradient(model, F.cross_entropy, episodes, **how)
    before = threading.active_count()
    gc.collect()
    modules = sum(issubclass(type(o), nn.Module) for o in gc.get_objects())
    for _ in range(20):
        binomctl.meta_gradient(model, F.cross_entropy, episodes, **how)
    gc.collect()
    assert threading.active_count() == before
    assert sum(issubclass(type(o), nn.Module) for o in gc.get_objects()) == modules
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.promise(21, fault="10,000 calls")
@pytest.mark.long
def test_thousands_of_calls_are_flat():
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    episodes = tuple(torch.randn(1, 3, 1) for _ in range(4))
    sizes = []
    for call in range(4_001):
        binomctl.meta_gradient(model, F.mse_loss, episodes, estimator="maml", K=1)
        if call % 2000 == 0:
            gc.collect()
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            sizes.append((len(gc.get_objects()), threading.active_count(), resident))
    _, (objects, threads, pages), (objects_after, threads_after, pages_after) = sizes
    assert threads_after == threads
    assert objects_after - objects < 100
    assert pages_after - pages < 1000  # 4 MB; 2,000 calls that left 2 KB each would be at it


def test_reentrant_checkpointing_is_refused_by_name():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(checkpoint(self.body, x, use_reentrant=True))

    episodes = (torch.randn(1, 4, 3), torch.tensor([[0, 1, 2, 0]])) * 2
    with pytest.raises(ConfigError, match="reentrant"):
        binomctl.meta_gradient(Net(), F.cross_entropy, episodes)


def test_a_token_without_a_row_is_named_with_the_table():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 3))
    tokens = torch.tensor([[[0, 6], [1, 7]]])
    with pytest.raises(ConfigError, match=r"Embedding at '0' \(rows 0 to 6\)"):
        binomctl.meta_gradient(model, F.cross_entropy, (tokens, torch.tensor([[0, 1]])) * 2)


def test_what_is_kept_follows_the_model():
    model, episodes = small(), tasks(4)
    meta = binomctl.MetaGradient(model, F.cross_entropy, estimator="maml", K=2, alpha=0.3)
    torch.testing.assert_close(flat(meta(episodes)), exact(model, episodes), rtol=1e-9, atol=1e-13)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1)
    torch.testing.assert_close(flat(meta(episodes)), exact(model, episodes), rtol=1e-9, atol=1e-13)
    model[1] = nn.Sigmoid()  # another network in the same module
    torch.testing.assert_close(flat(meta(episodes)), exact(model, episodes), rtol=1e-9, atol=1e-13)
    model[0].requires_grad_(False)
    assert list(meta(episodes)) == ["2.weight", "2.bias"]


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x):
        return self.head(x * self.frozen) * self.scale


@pytest.mark.parametrize("engine", ["auto", "autograd"])
def test_buffers_and_frozen_parameters_are_read_at_every_call(engine):
    model, episodes = Scaled().double(), tasks(4)
    meta = binomctl.MetaGradient(
        model, F.cross_entropy, estimator="maml", K=2, alpha=0.3, engine=engine
    )
    first = flat(meta(episodes))
    with torch.no_grad():
        model.scale.fill_(2.0)
        model.frozen.mul_(0.5)
    second = flat(meta(episodes))
    torch.testing.assert_close(
        second,
        flat(
            binomctl.meta_gradient(
                copy.deepcopy(model), F.cross_entropy, episodes, estimator="maml", K=2, alpha=0.3
            )
        ),
    )
    assert not torch.allclose(first, second)


def test_threads_of_the_caller_do_not_meet():
    model, episodes = small(), tasks(4)
    expected = exact(model, episodes)
    found = []

    def work():
        for _ in range(5):
            found.append(
                flat(
                    binomctl.meta_gradient(
                        model, F.cross_entropy, episodes, estimator="maml", K=2, alpha=0.3
                    )
                )
            )

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    for one in found:
        torch.testing.assert_close(one, expected, rtol=1e-9, atol=1e-13)


def test_a_patched_forward_works_on_the_copy():
    model, episodes = small(), tasks(4)
    expected = exact(model, episodes)
    model.forward = lambda x: model[2](torch.tanh(model[0](x)))
    found = binomctl.meta_gradient(
        model, F.cross_entropy, episodes, estimator="maml", K=2, alpha=0.3
    )
    torch.testing.assert_close(flat(found), expected, rtol=1e-9, atol=1e-13)


def test_tasks_of_unequal_size():
    model = small()
    full = tasks(4, N=6)
    ragged = tuple([list(part) for part in full])
    ragged[0][1], ragged[1][1] = ragged[0][1][:3], ragged[1][1][:3]
    found = binomctl.meta_gradient(
        model, F.cross_entropy, ragged, estimator="maml", K=2, alpha=0.3, with_loss=True
    )
    each = [exact(model, [part[b].unsqueeze(0) for part in ragged]) for b in range(2)]
    torch.testing.assert_close(
        flat(found.gradients), torch.stack(each).mean(0), rtol=1e-9, atol=1e-13
    )
    assert found.loss.shape == (2,)
    assert len(found.outputs) == 2


def test_weight_decay_over_the_adapted_parameters():
    model, episodes = small(), tasks(4)

    def decayed(prediction, y, parameters):
        size = sum(p.square().sum() for p in parameters.values())
        return F.cross_entropy(prediction, y) + 0.1 * size

    def by_hand(phi):
        return lambda prediction, y: F.cross_entropy(prediction, y) + 0.1 * phi.square().sum()

    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    rows = []
    for x, y, xq, yq in zip(*episodes, strict=True):

        def trn(phi, x=x, y=y):
            return flat_loss(model, by_hand(phi), x, y)(phi)

        def val(phi, x=xq, y=yq):
            return flat_loss(model, by_hand(phi), x, y)(phi)

        rows.append(backpropagated(trn, val, theta, 2, 0.3))
    found = binomctl.meta_gradient(model, decayed, episodes, estimator="maml", K=2, alpha=0.3)
    torch.testing.assert_close(flat(found), torch.stack(rows).mean(0), rtol=1e-9, atol=1e-13)


def test_a_loss_over_the_models_own_parameters_is_refused():
    model = small()

    def decayed(prediction, y):
        return F.cross_entropy(prediction, y) + sum(p.sum() for p in model.parameters())

    with pytest.raises(ConfigError, match="the loss uses 'model'"):
        binomctl.meta_gradient(model, decayed, tasks(4))
    own = list(model.parameters())
    hidden = {"p": own}

    def by_list(prediction, y):
        return F.cross_entropy(prediction, y) + sum(p.sum() for p in hidden["p"])

    with pytest.raises(ConfigError, match="the loss uses parameters of Sequential itself"):
        binomctl.meta_gradient(model, by_list, tasks(4))


def test_labels_are_named_with_their_range():
    x, y, xq, yq = tasks(4)
    y[0, 0] = 7
    with pytest.raises(ConfigError, match=r"Target 7 .*3 classes, 0 to 2"):
        binomctl.meta_gradient(small(), F.cross_entropy, (x, y, xq, yq))


class Average(nn.Module):
    """Normalises with a moving average that it updates itself."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        z = self.head(x)
        self.mean = 0.9 * self.mean + 0.1 * z.detach().mean(0)
        return z - self.mean


def test_a_state_that_outputs_depend_on_is_refused_by_name():
    with pytest.raises(ConfigError, match="depends on mean, which its own forward changes"):
        binomctl.meta_gradient(Average().double(), F.cross_entropy, tasks(4))


class Drawn(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.head, self.p = nn.Linear(4, 3), p

    def forward(self, x):
        return self.head(x) * (1.0 if torch.rand(()) > self.p else 0.5)


def test_a_rare_draw_is_seen_by_the_generator():
    state = torch.get_rng_state()
    for _ in range(5):
        with pytest.raises(ConfigError, match="random"):
            binomctl.meta_gradient(Drawn(1e-6).double(), F.cross_entropy, tasks(4))
    torch.set_rng_state(state)


def test_attention_switches_are_as_before():
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.mha.get_fastpath_enabled()
    with matrix_attention(), matrix_attention():
        assert not torch.backends.cuda.flash_sdp_enabled()
    after = torch.backends.cuda.flash_sdp_enabled(), torch.backends.mha.get_fastpath_enabled()
    assert before == after


@pytest.mark.promise(21, fault="hooks and closures that hold the module")
def test_a_network_is_a_copy_down_to_its_closures():
    model = small()
    kept = []
    model[1].register_forward_hook(lambda module, args, out: kept.append(model[0].weight) or None)
    network = Network(model)
    leaves = network.layout.unflatten(network.parameters() + 1)
    network(leaves, torch.randn(3, 4, dtype=D))
    assert kept == []  # the copy's hook has a list of its own
    assert network.is_copy_of(model)
    model.eval()
    assert not network.is_copy_of(model)
