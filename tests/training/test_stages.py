"""training.order_annealing: other estimators first."""

from __future__ import annotations

import pytest
import torch
from command import binomctl

from binomctl.errors import ConfigError
from binomctl.problem.build import build_problem
from binomctl.runs import RunDirectory
from binomctl.settings.layers import load_config
from binomctl.training.loop import meta_train
from binomctl.training.state import MetaState

SMALL = {"dataset.name": "sinusoid", "estimator.name": "maml", "training.meta_batch": 3,
         "dtype": "float64", "training.steps": 4}  # fmt: skip


def thetas(**more):
    p = build_problem(load_config(overrides=SMALL | {k.replace("__", "."): v
                                                     for k, v in more.items()})[0])  # fmt: skip
    state = MetaState(p)
    return [state.theta.detach().clone() for _ in meta_train(p, state)]


def test_the_first_steps_are_the_stages_and_the_others_the_run_s_own():
    stages = [{"until": 1, "estimator": "fomaml"},
              {"until": 3, "estimator": {"name": "binom", "L": 1}}]  # fmt: skip
    mixed = thetas(training__order_annealing=stages)
    first, own = thetas(estimator__name="fomaml"), thetas()
    assert torch.equal(mixed[0], first[0])
    assert not torch.equal(mixed[1], first[1])
    assert not torch.equal(mixed[0], own[0])
    # From the last stage's end on every step is the run's own, begun where the stages led.
    p = build_problem(load_config(overrides=SMALL)[0])
    assert not p.stages
    at = build_problem(load_config(overrides=SMALL | {"training.order_annealing": stages})[0])
    assert [type(at.at_step(s).estimator).__name__ for s in range(4)] == [
        "FOMAML", "BinomMAML", "BinomMAML", type(p.estimator).__name__
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"until": 3, "estimator": "fomaml"}, {"until": 3, "estimator": "trunc"}], "in order"),
        ([{"until": 3, "estimator": "fomalm"}], "Did you mean 'fomaml'"),
        ([{"until": 3, "estimator": {"name": "trunc", "L": 9}}], "L = 9 is greater than K"),
        ([{"until": 3, "estimator": "imaml"}], "cannot be a stage"),
        ([{"until": 0, "estimator": "fomaml"}], "expected at least 1"),
    ],
)
def test_stages_that_cannot_be_are_named(stages, said):
    with pytest.raises(ConfigError) as caught:
        build_problem(load_config(overrides=SMALL | {"training.order_annealing": stages})[0])
    assert said in f"{caught.value} {caught.value.hint}"


def test_a_run_goes_on_within_a_stage_to_the_same_bits(tmp_path):
    given = ["--dataset", "sinusoid", "--estimator", "maml", "--meta-batch", 2, "--set",
             "training.validate_every=2", "--set", "training.validation_tasks=2", "--set",
             "training.order_annealing=[{until: 3, estimator: fomaml}]"]  # fmt: skip
    binomctl("train", *given, "--steps", 6, "--out", tmp_path / "whole")
    binomctl("train", *given, "--steps", 2, "--out", tmp_path / "cut")
    binomctl("train", *given, "--steps", 6, "--resume", tmp_path / "cut", "--allow-change",
             "training.steps")  # fmt: skip
    whole, cut = (RunDirectory.open(tmp_path / name).checkpoints.load("last")
                  for name in ("whole", "cut"))  # fmt: skip
    assert whole.step == cut.step == 6
    for name, value in whole.parameters.items():
        assert torch.equal(value, cut.parameters[name])
