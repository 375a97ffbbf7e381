from __future__ import annotations

import sys

import pytest


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The working folder of a user who is new to this machine."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
