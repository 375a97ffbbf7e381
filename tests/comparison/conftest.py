from __future__ import annotations

import pytest
from command import binomctl

SMALL = ["--steps", 12, "--dataset", "sinusoid", "--set", "training.validate_every=6",
         "--set", "training.validation_tasks=4"]  # fmt: skip


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    """Two methods with three seeds each, one with a single seed."""
    root = tmp_path_factory.mktemp("runs")
    for name, L, seeds in (("maml", None, 3), ("fomaml", None, 3), ("trunc", 2, 1)):
        for seed in range(seeds):
            more = [] if L is None else ["--L", L]
            binomctl("train", "--estimator", name, *more, *SMALL, "--seed", seed,
                     "--out", root / f"{name}-{seed}")  # fmt: skip
    return root


@pytest.fixture
def small_run():
    """Options of a training of seconds."""
    return SMALL
