"""Drawing and augmenting tasks, ahead of their use or not; pixels on their way to the device."""

from __future__ import annotations

import layouts
import numpy as np
import pytest
import torch
from binomctl_datasets.fc100 import FC100

from binomctl.cli.datasets import ensure_prepared
from binomctl.errors import DataError
from binomctl.images import sampling
from binomctl.images.prepare import prepare
from binomctl.machine.prefetch import ahead
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config


def test_a_draw_has_no_image_twice_and_reaches_every_image():
    counts = np.array([20, 21, 35, 20, 90])
    seen: dict[int, set[int]] = {c: set() for c in range(5)}
    for seed in range(600):
        chosen, images = sampling.draw(counts, 3, 20, np.random.default_rng(seed))
        assert len(set(chosen.tolist())) == 3
        for c, drawn in zip(chosen, images, strict=True):
            assert len(set(drawn.tolist())) == 20
            assert drawn.max() < counts[c]
            seen[c] |= set(drawn.tolist())
    assert [len(s) for s in seen.values()] == counts.tolist()


def test_the_first_image_of_a_draw_is_uniform():
    """Support images are the first of a draw: each of 10 about as often as the others."""
    tally = np.zeros(10)
    for seed in range(3000):
        _, images = sampling.draw(np.array([10, 10]), 2, 4, np.random.default_rng(seed))
        tally[images[:, 0]] += 1
    expected = tally.sum() / 10
    chi = ((tally - expected) ** 2 / expected).sum()
    assert chi < 27.9  # 99.9% of chi-squared with 9 degrees of freedom


def test_augmentation_is_what_a_loop_over_the_images_gives():
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (12, 9, 9, 2), np.uint8)
    turns = random.integers(0, 4, 12)
    flips = random.random(12) < 0.5
    shifts = random.integers(0, 5, (12, 2))
    turned, flipped = sampling.turn(images, turns), sampling.flip(images, flips)
    shifted = sampling.shift(images, shifts, 2)
    for i in range(12):
        assert np.array_equal(turned[i], np.rot90(images[i], turns[i]))
        assert np.array_equal(flipped[i], images[i, :, ::-1] if flips[i] else images[i])
        dy, dx = shifts[i]
        padded = np.pad(images[i], ((2, 2), (2, 2), (0, 0)))
        assert np.array_equal(shifted[i], padded[dy : dy + 9, dx : dx + 9])
    assert np.array_equal(sampling.shift(images, np.full((12, 2), 2), 2), images)
    assert set(turns.tolist()) == {0, 1, 2, 3}


def test_a_class_turns_as_a_whole_and_support_comes_first():
    order = sampling.support_first(3, 4, 1)
    assert order.tolist() == [0, 4, 8, 1, 2, 3, 5, 6, 7, 9, 10, 11]
    images = np.arange(12, dtype=np.uint8)[order].reshape(12, 1, 1, 1)
    episode = sampling.to_episode(images, order // 4, 3)
    assert episode.x_trn.flatten().tolist() == [0, 4, 8]
    assert episode.x_val.flatten().tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert episode.y_trn.tolist() == [0, 1, 2]
    assert episode.y_val.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_augmentation_is_for_training_alone(tmp_path):
    layouts.fc100(tmp_path)
    plain = FC100(root=str(tmp_path), queries=2)
    prepare(plain.recipe, tmp_path)
    changed = FC100(root=str(tmp_path), queries=2, flip=True, crop=4, turn=True)
    assert torch.equal(plain.episode("test", 0).x_val, changed.episode("test", 0).x_val)
    assert not torch.equal(plain.episode("train", 0).x_val, changed.episode("train", 0).x_val)
    assert plain.class_names("train", 0) == changed.class_names("train", 0)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(tmp_path, workers):
    layouts.fc100(tmp_path)
    overrides = {
        "dataset.name": "fc100", "dataset.root": str(tmp_path), "dataset.flip": True,
        "training.queries": 2, "evaluation.queries": 2, "training.meta_batch": 2,
        "model.filters": 4, "training.steps": 3, "adaptation.K": 2,
    }  # fmt: skip
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    results = []
    for number in (0, workers):
        config, _ = load_config(overrides=overrides | {"training.workers": number})
        ensure_prepared(config)
        problem = build_problem(config)
        state = MetaState(problem)
        losses = [step.loss for step in meta_train(problem, state)]
        results.append((losses, state.theta.detach()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_an_error_comes_where_its_result_would_have():
    def make(i):
        if i == 3:
            raise DataError("the third")
        return i * i

    for workers in (0, 2):
        got = []
        with pytest.raises(DataError, match="the third"):
            got.extend(y for _, y in ahead(make, range(9), workers))
        source = ahead(make, range(3), workers)
        assert list(source) == [(0, 0), (1, 1), (2, 4)]


def test_pixels_travel_as_bytes_and_are_scaled_on_arrival(tmp_path):
    layouts.fc100(tmp_path)
    overrides = {"dataset.name": "fc100", "dataset.root": str(tmp_path), "training.queries": 2,
                 "evaluation.queries": 2}  # fmt: skip
    for pixels, top in (("unit", 1), ("raw", 255)):
        config, _ = load_config(overrides=overrides | {"pixels": pixels})
        ensure_prepared(config)
        problem = build_problem(config)
        drawn = problem.draw_training(range(2))
        assert drawn.x_trn.dtype == torch.uint8
        placed = problem.place(drawn)
        assert placed.x_trn.dtype == torch.float32
        assert torch.equal(placed.x_trn, drawn.x_trn.float() / (255 / top))
