from __future__ import annotations

import pytest
from ranks.launch import STARTED


@pytest.fixture(autouse=True)
def nothing_outlives_its_test():
    yield
    for process in STARTED:
        if process.poll() is None:
            process.kill()
        process.communicate()
    STARTED.clear()
