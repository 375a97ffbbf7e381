"""A sweep on this machine: real processes, one of them really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from command import in_a_process, listening

from binomctl.runs.lock import is_locked
from binomctl.sweeps.cards import Cards, gpus_here
from binomctl.sweeps.execute import How, _executor

GRID = """
common: {dataset.name: sinusoid, training.steps: 1500, training.validate_every: 500,
         engine.compile: off}
methods: [{estimator.name: maml}, {estimator.name: fomaml}]
"""


@pytest.mark.long
def test_a_killed_cell_is_tried_again_and_a_finished_one_never(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    command = [sys.executable, "-m", "binomctl", "sweep", "grid.yaml", "--jobs", "2", "--json"]
    sweep = subprocess.Popen(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    folder = tmp_path / "sweeps/grid"
    victim = folder / "sinusoid-maml-seed0/metrics.jsonl"
    wait_for(lambda: victim.exists() and victim.stat().st_size > 0, sweep)
    (job,) = [e["job"] for e in events(folder) if e["cell"] == "sinusoid-maml-seed0"]
    # The job is submitit's process; the training is its child.
    children = subprocess.run(["pgrep", "-P", job], capture_output=True, text=True).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    out, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, err
    report = json.loads(out)
    assert [c["state"] for c in report["cells"]] == ["done", "done"]
    assert [c["step"] for c in report["cells"]] == [1500, 1500]
    assert "sinusoid-maml-seed0 failed" in err
    assert "once more" in err
    said = [e["event"] for e in events(folder) if e["cell"] == "sinusoid-maml-seed0"]
    assert said == ["submitted", "failed", "submitted", "done"]
    again = in_a_process("sweep", "grid.yaml", "--jobs", 2, cwd=tmp_path)
    assert again.returncode == 0
    assert "2 cells, 2 of them finished" in again.stderr
    assert "submitted" not in again.stderr


@pytest.mark.long
def test_a_sweep_that_is_told_to_stop_lets_its_cells_save(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID.replace("1500", "200000"))
    sweep = subprocess.Popen(
        [sys.executable, "-m", "binomctl", "sweep", "grid.yaml", "--jobs", "2"], cwd=tmp_path,
        text=True, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=listening,
    )  # fmt: skip
    runs = [tmp_path / f"sweeps/grid/sinusoid-{name}-seed0" for name in ("maml", "fomaml")]
    for run in runs:
        wait_for(lambda run=run: (run / "metrics.jsonl").exists(), sweep)
    sweep.send_signal(signal.SIGTERM)
    _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 143, err
    assert "stopped by signal 15; 2 cells were running" in err
    for run in runs:
        index = json.loads((run / "checkpoints/index.json").read_text())
        assert index["last"]
        assert not is_locked(run)


def test_a_cell_that_fails_for_good_is_reported_and_the_others_go_on(tmp_path):
    text = GRID.replace("1500", "30") + "cross: {adaptation.alpha: [0.01, 1.0e+30]}\n"
    (tmp_path / "grid.yaml").write_text(text.replace(", {estimator.name: fomaml}", ""))
    done = in_a_process("sweep", "grid.yaml", "--jobs", 2, "--json", cwd=tmp_path)
    assert done.returncode == 1
    states = {c["name"]: c for c in json.loads(done.stdout)["cells"]}
    assert states["sinusoid-maml-alpha0.01-seed0"]["state"] == "done"
    bad = states["sinusoid-maml-alpha1e+30-seed0"]
    assert bad["state"] == "failed"
    assert "not finite" in bad["reason"]
    assert "1 of 2 cells not done: sinusoid-maml-alpha1e+30-seed0" in done.stderr
    tried = [e for e in events(tmp_path / "sweeps/grid") if "1e+30" in e["cell"]]
    assert [e["event"] for e in tried] == ["submitted", "failed"]  # numbers do not mend themselves


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def wait_for(what, process, seconds=90):
    for _ in range(10 * seconds):
        if what():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("nothing came")


@pytest.mark.long
def test_several_processes_share_a_cell(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID.replace("1500", "20").replace("500", "10"))
    more = ["--processes", 2, "--jobs", 1, "--json"]
    done = in_a_process("sweep", "grid.yaml", *more, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert [c["state"] for c in json.loads(done.stdout)["cells"]] == ["done", "done"]
    starts = json.loads((tmp_path / "sweeps/grid/sinusoid-maml-seed0/environment.json").read_text())
    logs = "".join(p.read_text() for p in (tmp_path / "sweeps/grid/jobs").glob("*_log.err"))
    assert logs.count("in 2 processes") == 2
    assert len(starts) == 1


@pytest.mark.long
def test_what_ends_several_processes_is_told(tmp_path):
    text = "common: {dataset.name: sinusoid, training.steps: 20, adaptation.alpha: 1.0e+30}\n"
    (tmp_path / "grid.yaml").write_text(text)
    more = ["--processes", 2, "--tries", 1, "--json"]
    done = in_a_process("sweep", "grid.yaml", *more, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 1
    (cell,) = json.loads(done.stdout)["cells"]
    assert "not finite" in cell["reason"]


def test_cells_share_the_gpus_of_a_machine(tmp_path):
    cards = Cards([3, 5])
    executor = _executor(tmp_path, How("local", 2))
    seen = []
    for name, count in (("a", 1), ("b", 1), ("c", 1)):
        cards.give(executor, name, count)
        seen.append(executor.submit(os.getenv, "CUDA_VISIBLE_DEVICES"))
    cards.take_back("b")
    for name, count in (("d", 1), ("e", 4)):
        cards.give(executor, name, count)
        seen.append(executor.submit(os.getenv, "CUDA_VISIBLE_DEVICES"))
    assert [job.result() for job in seen] == ["3", "5", "3", "5", "3,5"]


def test_only_visible_gpus_are_shared(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,7")
    assert gpus_here() == [2, 7]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_here() == []
