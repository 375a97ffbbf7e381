"""One, two or three processes: the same meta-gradients, scores and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from command import binomctl
from faults.runs import records
from ranks.launch import TINY, by_hand, ended, torchrun

STEPS = ("--meta-batch", 4, "--steps", 6, "--set", "training.validate_every=3", "--set",
         "training.error_estimate=true", "--rule", "meta-sgd")  # fmt: skip


def state(run: Path, step: int) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:08d}"
    named = {}
    for file in ("model", "state"):
        named |= safetensors.torch.load_file(folder / f"{file}.safetensors")
    return named


def close(run: Path, other: Path, step: int, tolerance: float) -> None:
    """Parameters, the rule's m and the optimiser's moments: the same to a relative tolerance."""
    one, two = state(run, step), state(other, step)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        error = (tensor.double() - two[name].double()).norm()
        assert error <= tolerance * tensor.double().norm(), name


def alike(run: Path, other: Path, tolerance: float) -> None:
    """metrics.jsonl: the same lines, their numbers to a relative tolerance."""
    found, wanted = records(other), records(run)
    assert len(found) == len(wanted)
    for line, as_wanted in zip(found, wanted, strict=True):
        assert line == pytest.approx(as_wanted, rel=tolerance, abs=tolerance)


@pytest.mark.long
def test_two_and_three_processes_train_and_score_as_one(tmp_path):
    """4 tasks on 3 ranks are shared unevenly; a run begun by two goes on with three."""
    how, W = (*TINY, *STEPS, "--set", "dtype=float64"), {n: tmp_path / str(n) for n in (1, 2, 3)}
    binomctl("train", *how, "--out", W[1])
    done = torchrun("train", *how, "--out", W[2], "--json", world=2)
    assert json.loads(done.stdout)["steps"] == 6
    assert done.stderr.count("in 2 processes") == 1
    first = ended(by_hand("train", *how, "--out", W[3], "--steps", 3, world=2))
    assert [code for code, _, _ in first] == [0, 0], first
    on = ("train", "--resume", W[3], "--steps", 6, "--allow-change", "training.steps")
    assert "goes on after step 3" in torchrun(*on, world=3).stderr
    for n in (2, 3):
        close(W[1], W[n], 6, 1e-12)
        alike(W[1], W[n], 1e-12)
    assert "error_estimate" in records(W[1])[0]
    assert (W[2] / "config.yaml").read_bytes() == (W[1] / "config.yaml").read_bytes()
    both = ended(by_hand("eval", W[1], "--tasks", 11, "--json", world=2))
    assert [out for _, out, _ in both] == [binomctl("eval", W[1], "--tasks", 11, "--json")[0], ""]
    (code, out, err), _ = ended(by_hand("verify", W[2], "--json", world=2))
    assert code == 0, err  # to the bit: two processes sum as two did
    assert json.loads(out)["replayed"]["same"]


def test_a_rank_without_a_task_waits_and_float32_is_as_close_as_it_comes(tmp_path):
    """After the first step Adam's first moment is a tenth of the meta-gradient."""
    how = (*TINY, "--meta-batch", 2, "--steps", 1)
    binomctl("train", *how, "--out", tmp_path / "one")
    for code, out, err in ended(by_hand("train", *how, "--out", tmp_path / "three", world=3)):
        assert code == 0, err
        assert ("Meta-training finished" in out) == ("starts on" in err)
    one, three = state(tmp_path / "one", 1), state(tmp_path / "three", 1)
    moment = one["optimizer.0.exp_avg"]
    assert (moment - three["optimizer.0.exp_avg"]).norm() < 1e-6 * moment.norm()
