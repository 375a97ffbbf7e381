"""What the tests of several processes start ends with them, as in tests/faults."""

from __future__ import annotations

from faults.conftest import nothing_outlives_its_test

__all__ = ["nothing_outlives_its_test"]
