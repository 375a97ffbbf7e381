"""The two locks hold the same pins."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pins(name: str) -> set[str]:
    found = re.findall(r"^([\w.-]+)==([\w.+!]+)", (ROOT / name).read_text(), flags=re.MULTILINE)
    return {f"{re.sub('[-_.]+', '-', package).lower()}=={number}" for package, number in found}


def test_the_hashed_lock_holds_the_same_versions_and_a_hash_for_each():
    plain, hashed = pins("requirements.lock"), pins("requirements.hashed.lock")
    assert plain == hashed, "run make lock"
    blocks = (ROOT / "requirements.hashed.lock").read_text().split("==")[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in (ROOT / "requirements.hashed.lock").read_text()
