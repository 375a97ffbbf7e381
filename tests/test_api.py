"""`binomctl.meta_gradient` on a user's own model."""

from __future__ import annotations

import pytest
import torch
from dense_oracle import backpropagated, flat_loss
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.errors import ConfigError, NonFiniteError


def own_problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 2)).double()
    x = torch.randn(2, 3, 6, 3, dtype=torch.float64)
    y = torch.randint(0, 2, (2, 3, 6))
    return model, (x[0], y[0], x[1], y[1])


def test_mean_and_rows_equal_backpropagation():
    model, episodes = own_problem()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    rows = binomctl.meta_gradient(
        model, F.cross_entropy, episodes, estimator="maml", K=3, alpha=0.1, per_task=True
    )
    for b in range(3):
        trn = flat_loss(model, F.cross_entropy, episodes[0][b], episodes[1][b])
        val = flat_loss(model, F.cross_entropy, episodes[2][b], episodes[3][b])
        expected = backpropagated(trn, val, theta, 3, 0.1)
        found = torch.cat([rows[n][b].reshape(-1) for n in before])
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    mean = binomctl.meta_gradient(
        model, F.cross_entropy, episodes, estimator="maml", K=3, alpha=0.1
    )
    for name, p in model.named_parameters():
        torch.testing.assert_close(mean[name], rows[name].mean(0))
        assert torch.equal(p, before[name])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"L": 9}, "greater than K"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"K": 0}, "K = 0"),
        ({"K": 2.5}, "K = 2.5"),
        ({"K": True}, "K = True"),
        ({"alpha": "a"}, "alpha = 'a'"),
        ({"memory": "stor"}, "Did you mean 'store'"),
        ({"estimator": "binon"}, "Did you mean 'binom'"),
        ({"LL": 1}, "unknown option 'LL'"),
        ({"rule": "gf"}, "Did you mean 'gd'"),
    ],
)
def test_wrong_arguments_are_named(change, word):
    model, episodes = own_problem()
    with pytest.raises(ConfigError, match=word):
        binomctl.meta_gradient(model, F.cross_entropy, episodes, **change)


def test_unfit_models_and_losses_are_named():
    _, episodes = own_problem()
    layers = [nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)]
    with pytest.raises(ConfigError, match="BatchNorm1d at '1'"):
        binomctl.meta_gradient(nn.Sequential(*layers).double(), F.cross_entropy, episodes)
    layers[1] = nn.Dropout(0.5)
    with pytest.raises(ConfigError, match="Dropout at '1'"):
        binomctl.meta_gradient(nn.Sequential(*layers).double(), F.cross_entropy, episodes)
    model, _ = own_problem()
    with pytest.raises(ConfigError, match="scalar"):
        binomctl.meta_gradient(
            model, lambda o, y: F.cross_entropy(o, y, reduction="none"), episodes
        )
    model.register_parameter("idle", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    with pytest.raises(ConfigError, match="idle"):
        binomctl.meta_gradient(model, F.cross_entropy, episodes)


def test_a_result_that_is_not_finite_is_refused():
    model, episodes = own_problem()
    with pytest.raises(NonFiniteError):
        binomctl.meta_gradient(model, lambda o, y: o.exp().mean() * 1e300 * 1e300, episodes)


def test_running_statistics_in_eval_mode_are_constants():
    _, episodes = own_problem()
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(4)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    model = nn.Sequential(nn.Linear(3, 4), norm, nn.Tanh(), nn.Linear(4, 2)).double().eval()
    before = norm.running_mean.clone()
    found = binomctl.meta_gradient(
        model, F.cross_entropy, episodes, estimator="maml", K=2, alpha=0.1, per_task=True
    )
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    trn = flat_loss(model, F.cross_entropy, episodes[0][0], episodes[1][0])
    val = flat_loss(model, F.cross_entropy, episodes[2][0], episodes[3][0])
    expected = backpropagated(trn, val, theta, 2, 0.1)
    rows = torch.cat([found[n][0].reshape(-1) for n, _ in model.named_parameters()])
    torch.testing.assert_close(rows, expected, rtol=1e-10, atol=1e-14)
    assert torch.equal(norm.running_mean, before)


def test_rule_parameters_of_the_wrong_size_are_refused():
    model, episodes = own_problem()
    with pytest.raises(ConfigError, match=r"shape \[3\], the rule has 26 meta-parameters"):
        binomctl.meta_gradient(
            model, F.cross_entropy, episodes, rule="meta-sgd", rule_parameters=torch.ones(3)
        )


class Dropped(nn.Module):
    """Dropout that no module announces."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(F.dropout(x, 0.5))


def test_dropout_inside_forward_is_refused():
    _, episodes = own_problem()
    with pytest.raises(ConfigError, match="Dropped gives two answers for one input"):
        binomctl.meta_gradient(Dropped().double(), F.cross_entropy, episodes)


@pytest.mark.parametrize(
    ("loss", "word"),
    [(lambda o, y: 1.0, "is no tensor"), (lambda o, y: torch.zeros(()), "is constant")],
)
def test_a_loss_that_does_not_depend_on_the_model_is_refused(loss, word):
    model, episodes = own_problem()
    with pytest.raises(ConfigError, match=word):
        binomctl.meta_gradient(model, loss, episodes)


@pytest.mark.parametrize(
    ("episodes", "word"),
    [((torch.ones(1, 2, 3),) * 3, "four tensors"), ((torch.ones(0, 2, 3),) * 4, "no task")],
)
def test_episodes_that_are_none_are_refused(episodes, word):
    model, _ = own_problem()
    with pytest.raises(ConfigError, match=word):
        binomctl.meta_gradient(model, F.mse_loss, episodes)


def test_the_tensors_of_one_task_without_an_axis_of_tasks_are_told_how_they_are_read():
    x = torch.randn(10, 1)
    wrong = binomctl.MetaGradient(nn.Linear(1, 1), F.mse_loss, K=2)
    with pytest.warns(UserWarning, match=r"x_trn \[10, 1\] .* read as 10 tasks") as told:
        wrong((x, x, x, x))
    assert told[0].filename == __file__
    right = [t.unsqueeze(0) for t in (x, x, x, x)]
    assert set(wrong(right)) == {"weight", "bias"}  # warnings are errors here
    with pytest.raises(ConfigError, match="differ in their number of tasks") as refused:
        wrong((x, x, x[:5], x[:5]))
    assert "unsqueeze(0)" in refused.value.hint


def test_torch_s_threads_rest_during_a_whole_call_but_the_first(monkeypatch):
    """A perceptron's kernels take less time than waiting for torch's threads does."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    episodes = (torch.randn(3, 6, 3), torch.randint(0, 2, (3, 6))) * 2
    threads, real = [], binomctl.MetaGradient._result

    def result(self, tasks):
        threads.append(torch.get_num_threads())
        return real(self, tasks)

    monkeypatch.setattr(binomctl.MetaGradient, "_result", result)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for wanted in (2, 1, 1):
            binomctl.meta_gradient(model, F.cross_entropy, episodes, estimator="maml")
            assert threads[-1] == wanted
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
