"""Statistics of pairs against other ways to them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from binomctl.comparison.paired import holm, needed, paired, verdict
from binomctl.metric import Metric


def test_the_interval_and_p_are_those_of_a_paired_t_test():
    random = np.random.default_rng(3)
    a, b = random.normal(0.5, 0.1, (2, 40))
    found = paired(list(a - b))
    other = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(other.pvalue)
    low, high = other.confidence_interval()
    assert (found.mean - found.ci95, found.mean + found.ci95) == pytest.approx((low, high))
    assert found.bootstrap is not None
    assert found.bootstrap[0] < found.mean < found.bootstrap[1]
    assert found.bootstrap == paired(list(a - b)).bootstrap
    assert paired([0.1, 0.2, 0.4]).bootstrap is None


def test_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(5)
    hits = {"t": 0, "bootstrap": 0}
    studies = 300
    for _ in range(studies):
        found = paired(list(random.exponential(1.0, 40) - 1.0))
        hits["t"] += abs(found.mean) <= found.ci95
        hits["bootstrap"] += found.bootstrap[0] <= 0 <= found.bootstrap[1]
    for share in (count / studies for count in hits.values()):
        assert 0.88 < share < 0.99


def test_so_many_pairs_find_the_difference_in_80_percent():
    random, n = np.random.default_rng(7), needed(0.25, 1.0)
    assert n == 126
    found = stats.ttest_1samp(random.normal(0.25, 1.0, (4000, n)), 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.025)
    assert needed(0.0, 1.0) is None


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("d", "p", "words"),
    [
        ([0.02, 0.03, 0.025, 0.02], 0.01, "better by 2.4 points"),
        ([-0.02, -0.03, -0.025, -0.02], 0.01, "worse by 2.4 points"),
        ([0.0, 0.0], 1.0, "the same scores"),
        ([0.1, -0.1], 1.0, "not separable at n = 2: no difference in the mean"),
        ([0.3, -0.2, 0.1, -0.1], 0.7, "not separable at n = 4: 618 tasks would be needed"),
    ],
)
def test_verdicts(d, p, words):
    assert verdict(paired(d), p, Metric("accuracy", "share", True), "tasks") == words


def test_lower_is_better_for_an_error():
    mse = Metric("mse", "number", False)
    assert verdict(paired([-0.5, -0.4, -0.6]), 0.01, mse, "seeds") == "better by 0.5 in mse"
