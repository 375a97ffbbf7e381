"""Numbers of things, in words."""

from __future__ import annotations

import pytest

from binomctl.words import number_of


@pytest.mark.parametrize(
    ("n", "what", "words"),
    [(1, "query", "1 query"), (2750, "query", "2,750 queries"), (5, "way", "5 ways"),
     (0, "shot", "0 shots"), (2, "class", "2 classes"), (2, "batch", "2 batches"),
     (1, "CPU thread", "1 CPU thread")],
)  # fmt: skip
def test_a_number_of_things(n, what, words):
    assert number_of(n, what) == words
