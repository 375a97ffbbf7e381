from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Runs and pictures of a test land in its own folder."""
    monkeypatch.chdir(tmp_path)
