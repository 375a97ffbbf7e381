"""Damage, full disks, numbers that are not finite, a lack of memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from command import in_a_process as binomctl
from faults.runs import SMALL, last, records, tensors

from binomctl.errors import BinomctlError, CheckpointError
from binomctl.files.sealed import write_sealed
from binomctl.problem.build import build_problem
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.settings.config import Config
from binomctl.settings.layers import load_config
from binomctl.training.loop import meta_train
from binomctl.training.state import MetaState
from binomctl.training.step import step_function


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("finished") / "run"
    done = binomctl("train", *SMALL, "--out", run)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a run of 40 steps, with checkpoints of steps 35 and 40 at least, not reported."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    return tmp_path / "run"


def python(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def everything_read(path: Path) -> None:
    found = RunDirectory.open(path)
    found.config()
    found.checkpoints.load("last")
    found.checkpoints.kept()


@pytest.mark.promise(4, fault="one bit flipped, or half the file gone, in each file of a run")
@pytest.mark.parametrize("how", ["flip", "cut"])
def test_every_file_that_decides_a_number_is_checked(finished, tmp_path, how):
    copy = tmp_path / "copy"
    newest = sorted(finished.glob("checkpoints/step-*"))[-1].relative_to(finished)
    named = ["run.json", "config.yaml", "checkpoints/index.json"]
    named += [str(newest / n) for n in ("manifest.json", "model.safetensors", "state.safetensors")]
    for name in named:
        size = (finished / name).stat().st_size
        # Not the last byte alone: a record without its last newline is the same record.
        for at in range(0, size - 1, max(1, size // 25)):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(finished, copy)
            if how == "flip":
                flip(copy / name, at)
            else:
                (copy / name).write_bytes((copy / name).read_bytes()[:at])
            with pytest.raises(CheckpointError) as refused:
                everything_read(copy)
            assert Path(name).name in str(refused.value) or "index" in str(refused.value)


@pytest.mark.promise(4, fault="the newest checkpoint damaged, then all of them")
def test_auto_falls_back_to_the_newest_whole_one(run, finished):
    newest = sorted(run.glob("checkpoints/step-*"))[-1]
    flip(newest / "state.safetensors")
    asked = binomctl("train", "--resume", run)
    assert asked.returncode == 4
    assert "state.safetensors is damaged" in asked.stderr
    assert "--resume auto" in asked.stderr
    done = binomctl("train", *SMALL, "--resume", "auto", "--out", run)
    assert done.returncode == 0, done.stderr
    assert "not used" in done.stderr
    assert "goes on after step 35" in done.stderr
    assert tensors(run, 40) == tensors(finished, 40)
    assert records(run) == records(finished)
    (run / "report.json").unlink()
    for folder in run.glob("checkpoints/step-*"):
        flip(folder / "model.safetensors")
    lost = binomctl("train", *SMALL, "--resume", "auto", "--out", run)
    assert lost.returncode == 4
    assert "No other checkpoint is whole" in lost.stderr


@pytest.mark.promise(6, fault="another estimator, step size or model asked for with --resume")
def test_another_configuration_is_refused_by_its_keys(run):
    refused = binomctl("train", "--resume", run, "--L", 1, "--alpha", 0.5)
    assert refused.returncode == 4
    for word in ("estimator.L", "adaptation.alpha", "0.5", "--allow-change"):
        assert word in refused.stderr
    longer = binomctl("train", "--resume", run, "--steps", 50)
    assert "training.steps is 40, asked for 50" in longer.stderr
    done = binomctl("train", "--resume", run, "--steps", 50, "--allow-change", "training.steps")
    assert done.returncode == 0, done.stderr
    assert last(run) == 50
    assert RunDirectory.open(run).config().training.steps == 50
    harmless = binomctl("train", "--resume", run, "--set", "training.workers=2")
    assert harmless.returncode == 0, harmless.stderr


@pytest.mark.promise(6, fault="a checkpoint of a newer schema")
def test_a_newer_schema_is_refused_by_name(run):
    manifest = sorted(run.glob("checkpoints/step-*/manifest.json"))[-1]
    record = json.loads(manifest.read_text())
    record.pop("seal")
    write_sealed(manifest, {**record, "schema": "binomctl/checkpoint/9"})
    done = binomctl("eval", run, "--checkpoint", "last")
    assert done.returncode == 4
    assert "binomctl/checkpoint/9" in done.stderr


@pytest.mark.promise(6, fault="other data than the run was started with")
def test_other_data_are_refused(run):
    path = run / "run.json"
    record = json.loads(path.read_text())
    record.pop("seal")
    write_sealed(path, {**record, "facts": {"data": "0" * 64}})
    done = binomctl("train", "--resume", run)
    assert done.returncode == 4
    assert "the data are not those" in done.stderr


@pytest.mark.promise(8, fault="the last line of metrics.jsonl torn")
def test_a_torn_line_is_dropped(run, finished):
    newest = sorted(run.glob("checkpoints/step-*"))[-1]
    shutil.rmtree(newest)
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 41, "train_lo')
    done = binomctl("train", *SMALL, "--resume", "auto", "--out", run)
    assert done.returncode == 0, done.stderr
    assert records(run) == records(finished)
    assert [r["step"] for r in records(run)] == list(range(1, 41))


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 200 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.promise(7, fault="a file system of 200 kB that runs full during a training")
def test_a_full_disk_costs_nothing_that_was_saved(small_disk):
    run = small_disk / "run"
    done = binomctl("train", *SMALL, "--steps", 400, "--out", run, "--keep-every", 5)
    assert done.returncode == 6, done.stderr
    assert "no space left" in done.stderr
    checkpoint, damaged = RunDirectory.open(run).checkpoints.newest()
    assert checkpoint.step >= 5
    assert not damaged
    assert f"Step {checkpoint.step} is saved" in done.stderr


def test_a_folder_that_vanishes_is_named(tmp_path):
    """Renamed while it trains: an error of ours, not a run without its files and exit 0."""
    run = tmp_path / "run"
    script = "import sys, threading, time, os; from pathlib import Path\n"
    script += f"run = Path({str(run)!r})\n"
    script += "def away():\n while not (run / 'metrics.jsonl').exists(): time.sleep(0.01)\n"
    script += " os.rename(run, str(run) + '-away')\n"
    script += "threading.Thread(target=away, daemon=True).start()\n"
    script += (
        f"sys.argv = ['binomctl', 'train', *{[*SMALL, '--steps', '5000', '--out', str(run)]!r}]\n"
    )
    script += "from binomctl.cli import main; main()\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 6, done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.promise(7, fault="a checkpoint of a run whose folder was moved away")
def test_a_checkpoint_does_not_bring_a_moved_run_back(tmp_path):
    path, w = tmp_path / "run", torch.ones(3)
    with RunDirectory.create(path, Config()) as made:
        path.rename(tmp_path / "away")
        numbers = {"best": None, "seconds": 1.0}
        with pytest.raises((OSError, BinomctlError)):
            made.checkpoints.save(
                Checkpoint(1, {"w": w}, ("w",), {"m": w}, numbers), best=True, last=1
            )
        assert not path.exists()


@pytest.mark.promise(10, fault="steps that diverge, with raise and with skip; NaN weights")
def test_numbers_that_are_not_finite(tmp_path):
    wild = [*SMALL, "--alpha", "1e30", "--estimator", "maml"]
    stopped = binomctl("train", *wild, "--out", tmp_path / "raise")
    assert stopped.returncode == 5
    assert "No checkpoint was saved" in stopped.stderr
    assert "intact" not in stopped.stderr
    skipping = binomctl("train", *wild, "--on-nonfinite", "skip", "--out", tmp_path / "skip")
    assert skipping.returncode == 5  # twenty in a row are no accident
    assert "step 1 is left out" in skipping.stderr
    assert not list((tmp_path / "raise").glob("checkpoints/step-*"))


@pytest.mark.promise(10, fault="one step of many whose loss is NaN, skipped")
def test_a_skipped_step_changes_nothing(monkeypatch):
    p = build_problem(load_config(overrides={
        "dataset.name": "sinusoid", "training.steps": 3, "training.on_nonfinite": "skip",
        "training.meta_batch": 2})[0])  # fmt: skip
    state, real = MetaState(p), p.draw_training

    def drawn(indices):
        batch = real(indices)
        if indices.start == 2:
            batch.y_val[0, 0] = float("nan")
        return batch

    monkeypatch.setattr(type(p), "draw_training", lambda self, indices: drawn(indices))
    steps = meta_train(p, state)
    first = next(steps)
    before = [t.clone() for t in (state.theta, *state.optimizer.state[state.theta].values())]
    skipped = next(steps)
    after = [state.theta, *state.optimizer.state[state.theta].values()]
    assert not first.skipped
    assert "training episodes [2]" in skipped.skipped
    assert state.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not next(steps).skipped


@pytest.mark.promise(10, fault="a checkpoint whose weights are all NaN")
def test_weights_that_are_nan_have_no_score(run):
    with RunDirectory.resume(run) as held:
        newest, _ = held.checkpoints.newest()
        model = {name: torch.full_like(t, float("nan")) for name, t in newest.model.items()}
        bad = type(newest)(newest.step, model, newest.learned, newest.state, newest.numbers)
        held.checkpoints.save(bad, best=True)
    done = binomctl("eval", run, "--tasks", 4)
    assert done.returncode == 5
    assert "not finite" in done.stderr


@pytest.mark.promise(11, fault="an address space that is too small for the meta-batch")
@pytest.mark.long
def test_a_lack_of_memory_says_what_to_lower(tmp_path):
    script = "import resource, sys, torch, binomctl.cli, binomctl.training.run\n"
    script += "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
    script += "resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))\n"
    words = [*SMALL, "--meta-batch", "20000", "--K", "40", "--out", str(tmp_path / "run")]
    script += f"sys.argv = ['binomctl', 'train', *{words!r}]; binomctl.cli.main()\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 6, done.stderr
    assert "Traceback" not in done.stderr
    for word in ("out of memory", "at the peak", "--task-chunk"):
        assert word in done.stderr


@pytest.mark.promise(11, fault="a meta-batch of 7 in chunks of 1, 2 and 3")
@pytest.mark.parametrize("rule", ["gd", "meta-sgd"])
@pytest.mark.parametrize("engine", ["analytic", "autograd"])
def test_chunks_give_the_same_meta_gradient(engine, rule):
    def gradient(chunk):
        overrides = {
            "dataset.name": "sinusoid", "training.meta_batch": 7, "engine.kind": engine,
            "dtype": "float64", "training.task_chunk": chunk, "rule.name": rule,
        }  # fmt: skip
        p = build_problem(load_config(overrides=overrides)[0])
        return step_function(p)(p.theta, p.m, p.training_batch(range(7)))

    whole = gradient(None)
    for chunk in (1, 2, 3):
        part = gradient(chunk)
        for one, two in zip(whole.per_task, part.per_task, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(whole.loss, part.loss, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(whole.prediction, part.prediction, rtol=1e-12, atol=1e-14)


@pytest.mark.promise(23, fault="the same run with 1 and 2 threads, 0 and 1 workers, side by side")
def test_the_same_seed_gives_the_same_bits(tmp_path, finished):
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        done = binomctl("train", *SMALL, "--out", tmp_path / "two", "--set", "training.workers=0",
                        OMP_NUM_THREADS="2")  # fmt: skip
    finally:
        busy.kill()
        busy.wait()
    assert done.returncode == 0, done.stderr
    assert tensors(tmp_path / "two", 40)[0] == tensors(finished, 40)[0]


def test_a_checkpoint_is_the_module_s_own_state_dict(finished):
    from binomctl.models import build_model

    model = build_model("mlp", {}, (1,), 1, 0)
    newest = sorted(finished.glob("checkpoints/step-*"))[-1]
    model.load_state_dict(safetensors.torch.load_file(newest / "model.safetensors"), strict=True)


def test_early_stopping(tmp_path):
    done = binomctl("train", *SMALL, "--out", tmp_path / "run", "--meta-lr", "1e-12", "--steps",
                    400, "--set", "training.patience=2", "--json")  # fmt: skip
    report = json.loads(done.stdout)
    assert report["stopped_early"]
    assert report["steps"] < 400
    assert report["steps"] == report["best"]["step"] + 20


def test_what_a_run_depends_on_is_recorded(finished):
    (start,) = json.loads((finished / "environment.json").read_text())
    assert start["command"][1:3] == ["train", "--dataset"]
    assert start["plugins"]["binomctl"]
    assert start["folder"]
    assert "git" in start
    assert len(json.loads((finished / "run.json").read_text())["facts"]["data"]) == 64
    assert {k for k in os.environ if k.startswith("OMP_")} <= set(start["variables"])


@pytest.mark.promise(23, fault="two processes that each choose a way to convolve by measurement")
@pytest.mark.long
def test_a_measured_choice_is_found_again(tmp_path):
    """The key of what was measured is the same in another process; a choice that is never found
    again can fall otherwise tomorrow."""
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    how = ["--dataset", "random-images", "--steps", 1, "--meta-batch", 2, "--size", 28, "--set",
           "training.validation_tasks=2", "--set", "model.filters=8"]  # fmt: skip

    def kept():
        return list((tmp_path / "cache").rglob("convolution-*.json"))

    for name in ("one", "two"):
        done = binomctl("train", *how, "--out", tmp_path / name, **cache)
        assert done.returncode == 0, done.stderr
        assert len(kept()) == 1
    assert tensors(tmp_path / "one", 1) == tensors(tmp_path / "two", 1)
    kept()[0].unlink()
    plain = binomctl("train", *how, "--set", "engine.deterministic=true", "--out",
                     tmp_path / "three", **cache)  # fmt: skip
    assert plain.returncode == 0, plain.stderr
    assert not kept()


def test_a_dry_run_of_a_run_changes_nothing(run):
    """It shows what would compute; the run neither goes on nor is touched."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = binomctl("train", "--resume", run, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "goes on" not in done.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
