"""A profile says when the machine was not its own."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from command import binomctl

from binomctl.profiling import others
from binomctl.profiling.others import OtherLoad, busy

QUICK = ["profile", "--seconds", "0.01", "--estimators", "fomaml", "--json"]


class Clock:
    """Readings of a machine of four cores, two of them ours: what was busy, and who."""

    def __init__(self, monkeypatch: Any) -> None:
        self.wall = self.mine = self.child = 0.0
        self.cores = [0.0] * 4
        fields = ("user", "system", "idle", "iowait", "steal", "guest")
        row = type("scputimes", (tuple,), {"_asdict": lambda t: dict(zip(fields, t, strict=True))})
        monkeypatch.setattr(others.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(
            psutil, "cpu_times",
            lambda percpu: [row((v, 0.0, 7 * self.wall, self.wall, 0.0, v)) for v in self.cores],
        )  # fmt: skip
        child = SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=self.child, system=0.0))
        process = SimpleNamespace(
            cpu_affinity=lambda: [0, 2],
            cpu_times=lambda: SimpleNamespace(user=self.mine, system=0.0, children_user=0.0,
                                              children_system=0.0),
            children=lambda recursive: [child],
        )  # fmt: skip
        monkeypatch.setattr(psutil, "Process", lambda: process)


def test_only_others_on_our_cores_count(monkeypatch):
    clock = Clock(monkeypatch)
    with (load := OtherLoad()):
        clock.wall, clock.mine, clock.child = 10.0, 8.0, 4.0
        clock.cores = [9.0, 10.0, 6.0, 10.0]  # 15 s on cores 0 and 2, 12 of them ours
    assert load.share == pytest.approx(3 / 20)


def test_a_quiet_machine_and_one_that_does_not_tell(monkeypatch):
    clock = Clock(monkeypatch)
    with (load := OtherLoad()):
        clock.wall, clock.mine, clock.cores = 10.0, 15.1, [7.0, 10.0, 8.0, 10.0]
    assert load.share == 0.0  # rounding never makes it less than nothing
    with (silent := OtherLoad()):
        clock.wall = 20.0
    assert silent.share is None


def cell(share: float) -> dict[str, Any]:
    return {"share_of_peak": {"matrix_product": share, "convolution": 3.0}}


def test_what_is_said_and_when():
    assert busy(None, []) is None
    assert busy(0.1, [cell(1.0), {"share_of_peak": None}]) is None
    crowded = busy(0.34, [cell(0.5)])
    assert crowded == {
        "others": 0.34,
        "reasons": ["other processes took 34% of the cores while this was measured"],
    }
    (reason,) = (busy(None, [cell(0.2), cell(1.93)]) or {})["reasons"]
    assert "193% of the peak" in reason
    assert len((busy(0.5, [cell(1.2)]) or {})["reasons"]) == 2


@pytest.mark.usefixtures("memory_known")
@pytest.mark.parametrize(("share", "said"), [(0.62, True), (0.01, False)])
def test_the_command_says_it(share, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OtherLoad, "__exit__", lambda self, *error: setattr(self, "share", share))
    monkeypatch.setattr("binomctl.profiling.session.busy", lambda s, cells: busy(s, []))
    out, err = binomctl(*QUICK)
    report = json.loads(out)
    assert ("the machine was busy: other processes took 62%" in err) == said
    assert (report["busy"] is not None) == said
