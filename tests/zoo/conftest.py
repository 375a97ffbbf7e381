from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def one_thread(one_op_thread):
    """For every network of the zoo."""
