"""Feature vectors of a user's own: drawn as tasks, learned from by LEO, refused in words."""

from __future__ import annotations

import math

import layouts
import numpy as np
import pytest
import torch

from binomctl.errors import ConfigError, DataError
from binomctl.problem.build import build_problem
from binomctl.settings import registry
from binomctl.settings.layers import load_config
from binomctl.testing import check_dataset
from binomctl.training.loop import meta_train
from binomctl.training.state import MetaState

Embeddings = registry.load("dataset", "embeddings")


def test_tasks_are_of_their_classes_and_the_checks_pass(tmp_path):
    path = layouts.features(tmp_path / "features.npz")
    check_dataset(Embeddings, {"path": path})
    episode = Embeddings(path=path, ways=3, shots=2, queries=4).episode("test", 7)
    for x, y, each in ((episode.x_trn, episode.y_trn, 2), (episode.x_val, episode.y_val, 4)):
        assert x.dtype == torch.float32
        assert torch.equal(y, torch.arange(3).repeat_interleave(each))
        first = x[:, 0].view(3, each)  # the class that a vector is of
        assert (first == first[:, :1]).all()
        assert len(first[:, 0].unique()) == 3
    rows = torch.cat([episode.x_trn, episode.x_val])
    assert len(rows.unique(dim=0)) == len(rows)  # no vector twice in a task


def test_leo_learns_on_them(tmp_path):
    config = load_config(overrides={
        "dataset": f"embeddings:{layouts.features(tmp_path / 'f.npz')}", "dataset.shots": 2,
        "model.name": "latent", "model.latent": 4, "rule.name": "leo", "rule.latent_steps": 2,
        "rule.hidden": 8, "adaptation.K": 3, "adaptation.alpha": 1.0, "training.steps": 40,
        "training.meta_lr": 0.01, "estimator.name": "binom",
    })[0]  # fmt: skip
    p = build_problem(config)
    losses = [step.loss for step in meta_train(p, MetaState(p))]
    assert all(map(math.isfinite, losses))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"test_y": None}, {}, "has no test_y"),
        ({"train_x": np.zeros((4, 2, 2)), "train_y": np.zeros(4)}, {}, r"train_x is \[4, 2, 2\]"),
        ({"train_x": np.full((4, 2), np.nan), "train_y": np.arange(4)}, {}, "not finite"),
        ({}, {"ways": 9}, "9 are needed"),
        ({}, {"queries": 30}, "0 of the 6 classes of 'train' have 31 vectors"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, changes, options, said):
    path = layouts.features(tmp_path / "features.npz", **changes)
    with pytest.raises(DataError, match=said):
        Embeddings(path=path, **options).episode("train", 0)


def test_no_file_and_a_file_of_another_kind(tmp_path):
    (tmp_path / "x.npz").write_text("no archive")
    with pytest.raises(DataError, match="cannot be read"):
        Embeddings(path=str(tmp_path / "x.npz")).episode("train", 0)
    with pytest.raises(DataError, match="cannot be read"):
        Embeddings(path=str(tmp_path / "none.npz")).episode("train", 0)
    with pytest.raises(ConfigError, match="none is named"):
        Embeddings()
