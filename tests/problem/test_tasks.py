"""Data sets that anybody may have written."""

from types import SimpleNamespace

import pytest
import torch

from binomctl.errors import DataError
from binomctl.problem.tasks import Tasks


def raises(split, index):
    raise KeyError("no class 7")


@pytest.mark.promise(25, fault="a data set whose episode() raises, or gives something else")
@pytest.mark.parametrize(
    ("episode", "words"),
    [(raises, r"episode\('train', 3\) fails: KeyError: 'no class 7'"),
     (lambda split, index: None, "gives NoneType, not an Episode")],
)  # fmt: skip
def test_an_episode_that_is_wrong_is_named(episode, words):
    tasks = Tasks(SimpleNamespace(episode=episode), 0, "unit", torch.zeros(1))
    with pytest.raises(DataError, match=words):
        tasks.draw("train", range(3, 4), 1, None)
