"""A file is there whole or not at all, with the permissions that any new file has."""

from __future__ import annotations

import os

import pytest

from binomctl.files.atomic import write_atomic


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path, umask, mask, mode):
    umask(mask)
    write_atomic(tmp_path / "a", b"1")
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_the_process_s_umask_is_never_changed_on_the_way(tmp_path, monkeypatch):
    """It is one for all threads: another's file would be open to everybody meanwhile."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("umask was set"))
    write_atomic(tmp_path / "a", b"1")


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", b"old")

    def broken(*_):
        raise OSError(5, "broken")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="broken"):
        write_atomic(tmp_path / "a", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
