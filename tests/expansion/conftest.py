from __future__ import annotations

import pytest
from dense_factors import problem


@pytest.fixture(scope="module")
def case():
    return problem()
