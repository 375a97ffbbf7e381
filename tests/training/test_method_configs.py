"""Every configuration of a method takes a step, learns, and is tested."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tiny import GLYPHS

from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.training.evaluate import Trained, evaluate
from binomctl.training.loop import meta_train
from binomctl.training.state import MetaState

CONFIGS = sorted((Path(__file__).parents[2] / "configs/methods").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_takes_a_step_and_is_tested(path):
    p = build_problem(load_config(path, GLYPHS)[0])
    state = MetaState(p)
    records = list(meta_train(p, state))
    assert len(records) == 2
    assert all(math.isfinite(step.loss) for step in records)
    assert (state.theta - p.theta).abs().max() > 0
    trained = [Trained(state.theta.detach(), state.m.detach())]
    scores = list(evaluate(p, trained, p.dataset, "test", 2, p.config.evaluation.steps))
    assert all(0 <= s <= 1 for s in scores)


def test_what_a_task_draws_is_its_own_and_the_same_again():
    config = load_config(Path(CONFIGS[0]).with_name("mt-net.yaml"), GLYPHS)[0]
    p = build_problem(config)
    whole = p.adaptation(p.training_batch(range(4)), p.m)
    again = p.adaptation(p.training_batch(range(2, 4)), p.m)
    assert whole.noise.shape[0] == 4
    assert whole.noise.shape[1] > 4
    assert (whole.noise[2:] == again.noise).all()
    assert (whole.noise[0] != whole.noise[1]).any()
