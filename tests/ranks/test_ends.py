"""However one rank ends, all end, soon and with the same code; what was saved stays whole."""

from __future__ import annotations

import signal

import pytest
from command import binomctl
from faults.runs import last
from ranks.launch import TINY, by_hand, ended, reach, torchrun

from binomctl.errors import ConfigError
from binomctl.machine.ranks import ALONE, joined
from binomctl.runs import RunDirectory

LONG = (*TINY, "--meta-batch", 2, "--steps", 10**6, "--set", "training.checkpoint_every=5", "--set",
        "training.validate_every=1000000", "--compile", "off")  # fmt: skip

KILLED = """
import signal, threading, time
def kill():
    from pathlib import Path
    while not Path("run/checkpoints/index.json").exists(): time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
if rank == 1: threading.Thread(target=kill, daemon=True).start()
"""

NOT_A_NUMBER = """
from binomctl.problem.record import Problem
draw = Problem.draw_training
def drawn(self, indices):
    batch = draw(self, indices)
    if 3 in indices and len(indices) == 1: batch.y_val[0, 0] = float("nan")
    return batch
Problem.draw_training = drawn
"""

NO_DATA = """
from binomctl_datasets.sinusoid import Sinusoid
episode = Sinusoid.episode
def broken(self, split, index):
    if (split, index) == ("train", 3): raise OSError("the disk is gone")
    return episode(self, split, index)
Sinusoid.episode = broken
"""


def whole(run) -> int:
    """The step that a run goes on from; every file of it is as it was written."""
    saved = RunDirectory.open(run).checkpoints
    assert saved.newest()[1] == []
    return saved.load("last").step


@pytest.mark.promise(18, fault="SIGKILL to one of two and three processes, without an agent")
@pytest.mark.parametrize(("world", "victim"), [(2, 0), (3, 1)])
def test_the_others_end_when_one_is_killed(tmp_path, world, victim):
    run = tmp_path / "run"
    processes = by_hand("train", *LONG, "--out", run, world=world)
    reach(run, 12, processes)
    processes[victim].kill()
    for rank, (code, _, err) in enumerate(ended(processes)):
        assert code == (-signal.SIGKILL if rank == victim else 6), err
        if rank != victim:
            assert "another process of the run ended" in err
            assert f"--resume {run}" in err
            assert "Traceback" not in err
    assert whole(run) >= 10
    binomctl("train", "--resume", run, "--steps", last(run) + 2, "--allow-change", "training")


@pytest.mark.promise(18, fault="SIGSTOP to one of two processes")
def test_the_other_ends_when_one_is_silent(tmp_path):
    run = tmp_path / "run"
    processes = by_hand("train", *LONG, "--out", run, world=2, BINOMCTL_RANK_TIMEOUT="3")
    reach(run, 7, processes)
    processes[1].send_signal(signal.SIGSTOP)
    (code, _, err), *_ = ended(processes[:1])
    assert code == 6
    assert "silent for 3 s" in err
    assert whole(run) >= 5


@pytest.mark.promise(18, fault="SIGKILL to one of two processes under torchrun")
@pytest.mark.long
def test_torchrun_ends_when_a_rank_is_killed(tmp_path):
    (tmp_path / "killed.py").write_text(
        "import os, sys\nrank = int(os.environ['RANK'])\n" + KILLED
        + "import binomctl.cli\nbinomctl.cli.main()\n"
    )  # fmt: skip
    how = ("train", *LONG, "--out", "run")
    done = torchrun(*how, world=2, code=1, script=tmp_path / "killed.py")
    assert "-9" in done.stderr
    assert whole(tmp_path / "run") >= 5


@pytest.mark.promise(2, fault="SIGTERM to one of two processes")
def test_a_signal_to_one_stops_all_after_the_same_step(tmp_path):
    run = tmp_path / "run"
    processes = by_hand("train", *LONG, "--out", run, world=2)
    reach(run, 3, processes)
    processes[1].terminate()
    (first, _, err), (second, _, silent) = ended(processes)
    assert (first, second) == (143, 143), err
    assert f"--resume {run}" in err
    assert "error" not in silent
    assert whole(run) == last(run)


@pytest.mark.promise(10, fault="a NaN in the tasks of one of two processes, with raise and skip")
def test_a_number_that_is_not_finite_is_refused_or_skipped_by_all(tmp_path):
    how = (*TINY, "--meta-batch", 2, "--steps", 4, "--set", "training.validate_every=4")
    stopped = ended(by_hand("train", *how, "--out", "raise", world=2, script=NOT_A_NUMBER))
    assert [code for code, _, _ in stopped] == [5, 5]
    assert "not finite in 1 of 2 tasks (training episodes [3])" in stopped[0][2]
    assert "error" not in stopped[1][2]
    assert whole(tmp_path / "raise") == 1
    skip = (*how, "--on-nonfinite", "skip", "--out", "skip")
    done = ended(by_hand("train", *skip, world=2, script=NOT_A_NUMBER))
    assert [code for code, _, _ in done] == [0, 0], done
    assert "step 2 is left out" in done[0][2]
    assert RunDirectory.open(tmp_path / "skip").checkpoints.load("last").numbers["skipped"] == 1


def test_what_one_rank_cannot_read_ends_all_with_its_words(tmp_path):
    how = (*TINY, "--meta-batch", 2, "--steps", 4, "--out", "run")
    done = ended(by_hand("train", *how, world=2, script=NO_DATA))
    assert [code for code, _, _ in done] == [3, 3], done
    assert "the disk is gone" in done[0][2]
    assert "Step 1 is saved" in done[0][2]
    assert "error" not in done[1][2]


def test_what_needs_all_tasks_together_is_refused_by_name(tmp_path):
    done = ended(by_hand("train", *TINY, "--estimator", "calibrated", "--out", "run", world=2))
    assert [code for code, _, _ in done] == [2, 2]
    assert "2 processes cannot share" in done[0][2]
    assert "'calibrated'" in done[0][2]
    assert not (tmp_path / "run").exists()


def test_an_environment_that_names_no_process_is_refused(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with joined() as ranks:
        assert ranks is ALONE
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="MASTER_ADDR, MASTER_PORT missing"), joined():
        pass
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigError, match="RANK=2"), joined():
        pass
