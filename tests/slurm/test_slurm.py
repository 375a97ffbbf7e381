"""A sweep on a real Slurm of one node, with a job that is preempted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import in_a_process

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, NEEDED)),
    reason="needs root and Debian's slurmctld, slurmd, slurm-client and munge",
)
SCRIPT = Path(__file__).with_name("cluster.sh")
GRID = """
common: {dataset.name: sinusoid, training.steps: 2500, training.validate_every: 500}
methods: [{estimator.name: maml}, {estimator.name: fomaml}]
"""


@pytest.fixture
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, *folder.parents):  # munge's socket is asked for by other users
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    made = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True)
    try:
        assert made.returncode == 0, made.stderr
        yield {"SLURM_CONF": made.stdout.strip(), "OMP_NUM_THREADS": "1"}
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=False)


@pytest.mark.long
def test_a_preempted_job_goes_on_to_the_same_bits(slurm, tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    env = {**os.environ, **slurm}
    command = ["sweep", "grid.yaml", "--executor", "slurm", "--jobs", "2", "--cpus", "1", "--json"]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "binomctl", *command], cwd=tmp_path, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    folder = tmp_path / "sweeps/grid"
    run = folder / "sinusoid-maml-seed0"
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        assert sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    (job,) = {e["job"] for e in events if e["cell"] == run.name}

    def slurms(*words):
        return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout

    slurms("scancel", "--signal", "USR2", job)
    while "Restarts=1" not in slurms("scontrol", "show", "job", job):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not (run / "report.json").exists(), "it was over before the signal came"
    while len(json.loads((run / "environment.json").read_text())) < 2:
        if "JobState=PENDING" in slurms("scontrol", "show", "job", job):
            # Slurm lets a job that was requeued wait for two minutes.
            slurms("scontrol", "update", f"JobId={job}", "StartTime=now")
        assert time.monotonic() < deadline
        time.sleep(1)
    out, err = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, err
    assert [c["state"] for c in json.loads(out)["cells"]] == ["done", "done"]
    assert "Traceback" not in err
    # One job, two stretches; nothing was tried twice.
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events if e["cell"] == run.name] == ["submitted", "done"]
    alone = in_a_process("train", "--config", folder / "cells" / f"{run.name}.yaml",
                         "--out", tmp_path / "alone", OMP_NUM_THREADS="1")  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    model = "checkpoints/step-00002500/model.safetensors"
    assert (run / model).read_bytes() == (tmp_path / "alone" / model).read_bytes()
