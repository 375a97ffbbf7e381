"""Layers put together by chance, other ones than the catalogue's."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.call import product
from zoo.catalogue.compositions import composed
from zoo.entry import Entry, ce, normal, three
from zoo.oracle import oracle, worst_error


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(100, 10**6), length=st.integers(2, 8))
def test_composed_network(seed, length):
    name = f"composed_{seed}_{length}"
    entry = Entry(name, "by chance", lambda: composed(seed, length), ce, normal(2, 8, 8), three)
    wanted = oracle(entry, ("maml", "binom2"))
    for label, values in wanted.items():
        assert worst_error(product(entry, label), values) < entry.allowed
