"""Data and networks that do not fit, told before step 1."""

import dataclasses

import pytest
from binomctl_datasets.sinusoid import Sinusoid

from binomctl.errors import ConfigError
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config


def mean_square(prediction, y):
    return ((prediction - y) ** 2).mean()


def squeezed(prediction, y):
    return ((prediction.reshape(y.shape) - y) ** 2).mean()


@pytest.mark.parametrize("part", ["loss", "metric"])
def test_targets_that_broadcast_are_refused(monkeypatch, part):
    """[N] beside [N, 1]: a loss written by hand pairs all with all, and says nothing."""
    real = Sinusoid.episode

    def flat(self, split, index):
        episode = real(self, split, index)
        y = {name: getattr(episode, name).squeeze(-1) for name in ("y_trn", "y_val")}
        return dataclasses.replace(episode, **y)

    monkeypatch.setattr(Sinusoid, "episode", flat)
    for name in ("loss", "metric"):
        monkeypatch.setattr(Sinusoid, name, staticmethod(squeezed))
    config = load_config(overrides={"dataset.name": "sinusoid"})[0]
    build_problem(config)  # it knows what it does
    monkeypatch.setattr(Sinusoid, part, staticmethod(mean_square))
    with pytest.raises(ConfigError, match=f"the data set's {part} compares every output"):
        build_problem(config)
