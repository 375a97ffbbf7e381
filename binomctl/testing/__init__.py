"""Checks for plugin authors: does a plugin keep what its contract promises?

Each raises AssertionError naming the promise that is broken. In a test suite of one's own:

    from binomctl.testing import check_estimator
    def test_mine():
        check_estimator(MyEstimator)
"""

from binomctl.testing.datasets import check_dataset
from binomctl.testing.estimators import check_estimator
from binomctl.testing.inner import check_rule, check_update
from binomctl.testing.problems import check_problem
from binomctl.testing.trackers import check_tracker

__all__ = ["check_dataset", "check_estimator", "check_problem", "check_rule", "check_tracker",
           "check_update"]  # fmt: skip
