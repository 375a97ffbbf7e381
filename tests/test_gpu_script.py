"""benchmarks/gpu.sh from end to end on a CPU, at its smallest sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_the_script_for_a_gpu_machine_runs(tmp_path):
    told = {"DEVICE": "cpu", "FLAGS": "--quick", "INSTALL": "no", "PYTHON": sys.executable}
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), str(tmp_path / "out")]
    subprocess.run(command, env={**os.environ, **told}, check=True, capture_output=True)
    report = json.loads((tmp_path / "out/gpu.json").read_text(encoding="utf-8"))
    assert report["environment"]["torch_threads"] >= 1
    for part in ("checks", "contestants", "capture", "figure4"):
        assert "error" not in report[part], report[part]
        assert report["seconds"][part] < 300
    for name, found in report["checks"].items():
        assert max(found.values()) < (1e-9 if "float64" in name else 1e-3)
    (rows,) = report["contestants"].values()
    assert not rows["failed"]
    assert {"learn2learn MAML", "binomctl MAML", "binomctl Binom(2)"} <= set(rows)
    assert report["figure4"]["cells"]
    assert (tmp_path / "out/fig4.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="this machine has a GPU, which the script would measure"
)
def test_without_a_gpu_it_says_so(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("torch finds no GPU")
    assert not (tmp_path / "out").exists()
