"""How sure a classifier is: against formulas written out."""

from __future__ import annotations

import math

import numpy as np
import torch

from binomctl.training.confidence import BINS, Confidence, calibration, confidence_of


def test_of_a_task():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 9.0], [0.0, 3.0, 0.0]])
    y = torch.tensor([0, 2, 2, 1])
    found = confidence_of(logits.float(), y)
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    assert math.isclose(found.nll, -np.log(p[np.arange(4), y.numpy()]).mean(), rel_tol=1e-12)
    bins = np.array(found.bins)
    assert bins.shape == (3, BINS)
    assert bins[0].sum() == 4
    assert math.isclose(bins[1].sum(), p.max(1).sum(), rel_tol=1e-12)
    assert bins[2].sum() == 3  # the second is wrong
    for row, right in zip(p, (1, 0, 1, 1), strict=True):
        place = math.ceil(row.max() * BINS) - 1
        assert bins[0, place] >= 1
        assert bins[2, place] >= right


def test_the_calibration_error_is_the_weighted_gap():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.34, 1, 4000)
    right = rng.random(4000) < sure**2  # too sure
    tasks = []
    for part in range(8):
        rows = slice(500 * part, 500 * (part + 1))
        place = np.ceil(sure[rows] * BINS).astype(int) - 1
        bins = np.zeros((3, BINS))
        for value, at, ok in zip(sure[rows], place, right[rows], strict=True):
            bins[:, at] += (1, value, ok)
        tasks.append(Confidence(0.0, bins.tolist()))
    found = calibration(tasks)
    place = np.ceil(sure * BINS).astype(int) - 1
    wanted = sum(
        (place == b).mean() * abs(right[place == b].mean() - sure[place == b].mean())
        for b in range(BINS) if (place == b).any()
    )  # fmt: skip
    assert math.isclose(found["error"], wanted, rel_tol=1e-9)
    assert found["queries"] == 4000
    assert found["bins"][0]["accuracy"] is None
    assert found["error"] > 0.1


def test_a_certain_answer_is_in_the_last_bin():
    found = confidence_of(torch.tensor([[800.0, 0.0]]), torch.tensor([0]))
    assert found.bins[0][-1] == 1
    assert found.nll == 0.0


def test_an_ensemble_of_sure_members_stays_finite():
    """In float32 a probability of exp(-200) is 0, and its logarithm no number."""
    from binomctl.training.evaluate import _mean

    one, two = torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([[150.0, 0.0, 1.0]])
    found = _mean([one, two], "classification")
    assert found.isfinite().all()
    wanted = (one.double().softmax(-1) + two.double().softmax(-1)) / 2
    assert torch.allclose(found.double().softmax(-1), wanted, atol=1e-7)
