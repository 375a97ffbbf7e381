"""`binomctl doctor`: what a machine has."""

import json

import pytest
from command import binomctl, in_a_process

from binomctl.machine import doctor


def test_it_names_everything_and_is_one_object():
    out, _ = binomctl("doctor", "--json")
    report = json.loads(out)
    names = [one["name"] for one in report["findings"]]
    assert names == ["Python", "torch", "GPUs", "NVML", "C compiler", "cache", "disk",
                     "learn2learn", "plugins"]  # fmt: skip
    assert report["good"]
    narrow = in_a_process("doctor", COLUMNS="40", NO_COLOR="1")
    assert all(len(line) <= 40 for line in narrow.stdout.splitlines())


@pytest.mark.promise(25, fault="a cache that cannot be written, no compiler, a full disk")
def test_what_is_missing_is_said_with_what_mends_it(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(doctor.platformdirs, "user_cache_dir", lambda name: str(blocked / "x"))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**80)
    out, _ = binomctl("doctor", "--json", code=7)
    found = {one["name"]: one for one in json.loads(out)["findings"]}
    assert found["cache"]["state"] == found["disk"]["state"] == "broken"
    assert "XDG_CACHE_HOME" in found["cache"]["hint"]
    assert found["C compiler"]["state"] == "absent"
    assert "gcc" in found["C compiler"]["hint"]
