"""A problem's engine made anew is the run's own, with other settings."""

from __future__ import annotations

import torch

from binomctl.problem.build import build_problem
from binomctl.problem.engines import at_full_precision, with_schedule
from binomctl.settings.layers import load_config


def test_an_engine_made_anew_keeps_the_frozen_statistics():
    config, _ = load_config(
        overrides={
            "dataset.name": "random-images", "dataset.image_size": 16, "model.filters": 4,
            "adaptation.statistics": "frozen", "dtype": "float64",
            "training.meta_batch": 2,
        }
    )  # fmt: skip
    problem = build_problem(config)
    batch = problem.training_batch(range(2))
    phi = problem.theta.expand(2, -1)
    wanted = problem.engine.query(phi, batch.x_val, batch.y_val)
    for other in (at_full_precision(problem), with_schedule(problem, memory="recompute")):
        found = other.engine.query(phi, batch.x_val, batch.y_val)
        torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=0)
        assert other.frozen is problem.frozen
