"""Processes killed and stopped: nothing that was saved is lost, and a run goes on to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import in_a_process as binomctl
from faults.runs import SMALL, last, reaches, records, started, tensors


@pytest.mark.promise(1, fault="SIGKILL at every file operation of a save, one after another")
@pytest.mark.long
def test_a_save_killed_anywhere_leaves_a_whole_checkpoint(tmp_path):
    script = Path(__file__).with_name("killed_saves.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 25  # so many operations a save has
    for step, value, damaged, newest, left, after in found:
        assert step in (1, 2)
        assert value == step
        assert not damaged
        assert newest in (1, 2)
        assert not left
        assert after == step
    assert {row[0] for row in found} == {1, 2}


@pytest.mark.promise(2, fault="SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGINT to a training")
@pytest.mark.parametrize(
    "name",
    ["SIGTERM", "SIGINT",
     *(pytest.param(name, marks=pytest.mark.long) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"))],
)  # fmt: skip
def test_a_signal_saves_the_step_and_says_how_to_go_on(tmp_path, name):
    run, number = tmp_path / "run", getattr(signal, name)
    process = started(*SMALL, "--steps", 100000, "--out", run)
    reaches(run, 3, process)
    process.send_signal(number)
    before = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - before < 30
    assert process.returncode == 128 + number, errors
    assert f"--resume {run}" in errors
    saved = sorted((run / "checkpoints").glob("step-*"))[-1]
    assert int(saved.name.removeprefix("step-")) >= last(run)
    assert binomctl("eval", run, "--tasks", 3).returncode == 0


@pytest.mark.promise(2, fault="SIGTERM while the first step is being compiled")
def test_a_signal_during_compilation_is_obeyed_at_once(tmp_path):
    run = tmp_path / "run"
    # No earlier run's cache, and no native passes, which need no compiler.
    anew = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "BINOMCTL_NATIVE": "0"}
    process = started(*SMALL, "--out", run, "--compile", "on", cwd=tmp_path, env=anew)
    end = time.monotonic() + 60
    while "compiles" not in (line := process.stderr.readline()) and time.monotonic() < end:
        assert line, "the training ended"
    time.sleep(4)  # it is compiling by then, which takes a busy machine half a minute
    process.send_signal(signal.SIGTERM)
    before = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert time.monotonic() - before < 30
    assert "nothing was there to save" in errors


@pytest.mark.promise(2, fault="SIGINT twice")
def test_the_second_interrupt_leaves_at_once(tmp_path):
    run = tmp_path / "run"
    # One step takes a second: the two signals come within it.
    process = started(*SMALL, "--steps", 100, "--K", 60, "--meta-batch", 400, "--L", 0, "--out",
                      run, "--set", "engine.threads=1")  # fmt: skip
    reaches(run, 5, process)
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert binomctl("eval", run, "--tasks", 3).returncode == 0


@pytest.mark.promise(3, fault="SIGKILL three times in a run, with 0 and 2 prefetch workers")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "options",
    [(), pytest.param(("--rule", "meta-sgd", "--set", "training.schedule=cosine", "--set",
                       "training.optimizer=sgd"), marks=pytest.mark.slow)],
    ids=["plain", "meta-sgd"],
)  # fmt: skip
def test_a_killed_run_goes_on_to_the_bit(tmp_path, workers, options):
    how = [*SMALL, *options, "--set", f"training.workers={workers}"]
    unbroken, run = tmp_path / "unbroken", tmp_path / "run"
    assert binomctl("train", *how, "--out", unbroken).returncode == 0
    for step in (7, 18, 31):
        process = started(*how, "--out", run, "--resume", "auto")
        reaches(run, step, process)
        process.kill()
        process.communicate()
    done = binomctl("train", *how, "--out", run, "--resume", "auto", "--json")
    assert done.returncode == 0, done.stderr
    assert "goes on after step" in done.stderr
    assert tensors(run, 40) == tensors(unbroken, 40)
    assert records(run) == records(unbroken)
    reports = [json.loads((p / "report.json").read_text())["best"] for p in (run, unbroken)]
    assert reports[0] == reports[1]
    again = binomctl("train", *how, "--out", run, "--resume", "auto")
    assert "is finished" in again.stderr
    checked = binomctl("verify", run, "--json")
    assert json.loads(checked.stdout)["replayed"]["same"], checked.stderr


@pytest.mark.promise(2, fault="a scheduler's limit")
@pytest.mark.long
def test_a_time_limit_stops_and_saves(tmp_path):
    run = tmp_path / "run"
    began = time.monotonic()
    done = binomctl("train", *SMALL, "--steps", 10**6, "--out", run, "--time-limit", "15s")
    assert time.monotonic() - began < 60  # the limit, a start and an end on a busy machine
    assert done.returncode == 143
    assert "its time limit" in done.stderr
    assert last(run) > 0


@pytest.mark.promise(9, fault="two trainings started together into one folder; a stale lock")
@pytest.mark.long
def test_two_processes_never_share_a_folder(tmp_path):
    run = tmp_path / "run"
    both = [started(*SMALL, "--out", run) for _ in range(2)]
    ends = sorted((p.communicate(timeout=120)[1], p.returncode) for p in both)
    codes = sorted(code for _, code in ends)
    assert codes == [0, 2], ends
    refused = next(text for text, code in ends if code == 2)
    assert "another process is writing" in refused or "never overwrites" in refused
    process = started(*SMALL, "--steps", 10**5, "--out", tmp_path / "killed")
    reaches(tmp_path / "killed", 6, process)
    held = binomctl("train", "--resume", tmp_path / "killed")
    assert held.returncode == 2
    assert "another process is writing" in held.stderr
    process.kill()
    process.communicate()
    assert (tmp_path / "killed" / ".lock").exists()
    gone_on = binomctl("train", "--resume", tmp_path / "killed", "--time-limit", "4s")
    assert gone_on.returncode == 143, gone_on.stderr


def test_a_folder_left_behind_before_the_first_checkpoint_is_taken_over(tmp_path):
    run = tmp_path / "run"
    process = started(*SMALL, "--out", run, "--set", "training.checkpoint_every=1000", "--set",
                      "training.validate_every=1000", "--steps", 10**5)  # fmt: skip
    reaches(run, 2, process)
    process.kill()
    process.communicate()
    done = binomctl("train", *SMALL, "--out", run)
    assert done.returncode == 0, done.stderr
    assert last(run) == 40
