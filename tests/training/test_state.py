"""An estimator that remembers: its state is in a checkpoint, and training goes on from there."""

from __future__ import annotations

import dataclasses
from itertools import islice

import pytest
import torch
from smoothed import Smoothed

import binomctl.runs.checkpoints as checkpoints
from binomctl.contracts import Remembers
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.training.loop import meta_train
from binomctl.training.state import MEMORY, MetaState, resume, snapshot

pytestmark = pytest.mark.usefixtures("one_op_thread")
D = torch.float64


@pytest.fixture
def problem():
    config, _ = load_config(
        overrides={
            "dataset.name": "sinusoid", "dtype": "float64", "device": "cpu", "model.width": 5,
            "model.depth": 1, "training.meta_batch": 2, "adaptation.K": 2, "training.steps": 6,
            "engine.compile": "off", "estimator.name": "maml",
        }
    )  # fmt: skip
    return dataclasses.replace(build_problem(config), estimator=Smoothed())


def trained(problem, state, steps):
    list(islice(meta_train(problem, state), steps))
    return state


def through_a_file(problem, state, folder):
    checkpoints.save(folder, snapshot(problem, state, None, {}))
    return checkpoints.load(folder)


def test_its_state_is_saved_and_training_goes_on_from_it_to_the_last_bit(problem, tmp_path):
    assert isinstance(problem.estimator, Remembers)
    whole = trained(problem, MetaState(problem), 6)
    half = trained(problem, MetaState(problem), 3)
    saved = through_a_file(problem, half, tmp_path / "step-3")
    part = saved.part(MEMORY)
    assert set(part) == {"mean", "calls"}
    assert part["calls"].dtype == torch.int64
    assert int(part["calls"]) == 3
    assert torch.equal(part["mean"], half.memory["mean"])
    assert part["mean"].any()

    other = MetaState(problem)
    resume(problem, other, saved)
    assert other.step == 3
    assert all(torch.equal(other.memory[name], half.memory[name]) for name in half.memory)
    trained(problem, other, 3)
    assert torch.equal(other.theta, whole.theta)
    assert int(other.memory["calls"]) == 6
    assert torch.equal(other.memory["mean"], whole.memory["mean"])


def test_without_its_state_training_would_go_elsewhere(problem, tmp_path):
    """That the test above can fail."""
    whole = trained(problem, MetaState(problem), 6)
    half = trained(problem, MetaState(problem), 3)
    other = MetaState(problem)
    resume(problem, other, through_a_file(problem, half, tmp_path / "step-3"))
    other.memory = problem.estimator.init_state(problem.engine.layout)
    trained(problem, other, 3)
    assert not torch.equal(other.theta, whole.theta)


def test_an_estimator_without_memory_saves_none(problem, tmp_path):
    plain = build_problem(problem.config)
    state = trained(plain, MetaState(plain), 2)
    assert state.memory is None
    assert not through_a_file(plain, state, tmp_path / "step-2").part(MEMORY)


@pytest.mark.parametrize("rule", ["gd", "meta-sgd"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("calibrated", {"every": 4}), ("minimax", {"every": 4, "L": 1}), ("unbiased", {"r": 1}),
        ("auto", {"every": 4, "tolerance": 0.3}),
    ],
)  # fmt: skip
def test_every_estimator_with_a_state_goes_on_to_the_last_bit(
    name, options, rule, problem, tmp_path
):
    """Saved between two fits: what was fitted is taken from the file."""
    changes = {"dataset.name": "sinusoid", "estimator.name": name, "rule.name": rule}
    kept = {"dtype": "float64", "device": "cpu", "adaptation.K": 3, "training.steps": 6,
            "training.meta_batch": 2, "engine.compile": "off", "model.width": 5,
            "model.depth": 1}  # fmt: skip
    given = {f"estimator.{k}": v for k, v in options.items()}
    own = build_problem(load_config(overrides=changes | kept | given)[0])
    whole = trained(own, MetaState(own), 6)
    half = trained(own, MetaState(own), 3)
    other = MetaState(own)
    resume(own, other, through_a_file(own, half, tmp_path / "step-3"))
    trained(own, other, 3)
    assert torch.equal(other.theta, whole.theta)
    assert torch.equal(other.m, whole.m)
    assert all(torch.equal(other.memory[n], t) for n, t in whole.memory.items())
    if rule == "gd":
        without = MetaState(own)
        resume(own, without, through_a_file(own, half, tmp_path / "again"))
        without.memory = own.estimator.init_state(own.engine.layout)
        trained(own, without, 3)
        assert not all(torch.equal(without.memory[n], t) for n, t in whole.memory.items())
