"""Trackers of training runs: what they wrote is read back with their own readers."""

from __future__ import annotations

import json
import struct
import time

import pytest
from command import binomctl, in_a_process

from binomctl.settings import registry
from binomctl.settings.layers import load_config
from binomctl.training.opening import checked, new
from binomctl.training.run import train

RUN = ["train", "--dataset", "sinusoid", "--meta-batch", 2, "--set", "training.validate_every=4",
       "--set", "training.validation_tasks=2", "--set", "training.log_every=2"]  # fmt: skip


def logged(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scalars(run):
    """name -> {step: value}, as TensorBoard shows them."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "trackers/tensorboard"))
    found.Reload()
    return {n: {e.step: e.value for e in found.Scalars(n)} for n in found.Tags()["scalars"]}


class Dies:
    """An observer by which a process breaks off, long after its last checkpoint."""

    def on_validation(self, step, value, best): ...

    def on_step(self, step, seconds):
        if step.step == 11:
            raise RuntimeError("power cut")


def test_tensorboard_shows_what_metrics_jsonl_has_after_a_crash_too(tmp_path):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    sizes = ["training.meta_batch=2", "training.validate_every=4", "training.validation_tasks=2"]
    config, _ = load_config(
        None,
        {"dataset.name": "sinusoid", "trackers": ["tensorboard"], "training.steps": 12},
        [*sizes, "training.log_every=1"],
    )
    opened = new(checked(config), run)
    with pytest.raises(RuntimeError, match="power cut"), opened.run:
        train(opened.problem, opened.run, Dies())
    assert logged(run)[-1]["step"] == 10
    binomctl("train", "--resume", run)  # from step 8
    shown, lines = scalars(run), logged(run)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert {"train_loss", "train_mse", "validation_mse"} <= set(shown)
    for name, values in shown.items():
        assert values == {
            line["step"]: pytest.approx(line[name], rel=1e-6) for line in lines if name in line
        }


def test_wandb_keeps_an_offline_run_with_configuration_and_outcome(tmp_path):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    run = tmp_path / "run"
    binomctl(*RUN, "--steps", 6, "--out", run, "--tracker", "wandb")
    (file,) = (run / "trackers/wandb").glob("offline-run-*/run-*.wandb")
    history, config, summary = [], {}, {}
    for record in until_the_exit(file, Record):
        items = {"history": record.history.item, "summary": record.summary.update}
        for kind, found in items.items():
            if record.WhichOneof("record_type") == kind:
                values = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in found}
                history += [values] if kind == "history" else []
                summary |= values if kind == "summary" else {}
        config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
    assert [{k: v for k, v in one.items() if not k.startswith("_")} for one in history] == [
        {k: v for k, v in line.items() if k != "step"} for line in logged(run)
    ]
    assert [one["_step"] for one in history] == [2, 4, 6]
    assert config["dataset"]["name"] == "sinusoid"
    report = json.loads((run / "report.json").read_text())
    assert summary["best"] == report["best"]


def until_the_exit(file, record_type):
    """The records of a .wandb file: wandb's process may write the last after ours has ended."""
    deadline = time.monotonic() + 30
    while True:
        found = [record_type.FromString(data) for data in records(file.read_bytes())]
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        assert time.monotonic() < deadline, "wandb wrote no end"
        time.sleep(0.05)


def records(data):
    """Of a .wandb file: LevelDB's log format, blocks of 32 KiB after a header of 7 bytes."""
    at, part = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + size > len(data):  # it is being written
            return
        part, at = part + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            yield part
            part = b""


class Breaking:
    """A tracker whose server goes away."""

    def __init__(self, at):
        self.at = at

    def start(self, run, folder, config, step):
        if self.at == "start":
            raise ConnectionError("nobody answers")
        return self

    def log(self, step, values):
        raise ConnectionError("the line is dead")

    def finish(self, report):
        raise AssertionError("it was told something after it had failed")


@pytest.mark.parametrize("at", ["start", "log"])
def test_a_tracker_that_fails_does_not_end_a_run(tmp_path, monkeypatch, at):
    create = registry.create

    def with_breaking(kind, name, options):
        return Breaking(at) if kind == "tracker" else create(kind, name, options)

    monkeypatch.setattr(registry, "create", with_breaking)
    _, err = binomctl(*RUN, "--steps", 4, "--out", tmp_path / "run", "--tracker", "tensorboard")
    assert err.count("tracker 'tensorboard' failed and is told nothing more: ConnectionError") == 1
    assert logged(tmp_path / "run")[-1]["step"] == 4


def test_a_tracker_is_no_part_of_what_a_run_learns(tmp_path):
    pytest.importorskip("tensorboard")
    binomctl(*RUN, "--steps", 4, "--out", tmp_path / "one")
    binomctl("train", "--resume", tmp_path / "one", "--tracker", "tensorboard")  # no other run
    binomctl(*RUN, "--steps", 4, "--out", tmp_path / "two", "--tracker", "tensorboard")
    one, two = (logged(tmp_path / name) for name in ("one", "two"))
    for line in (*one, *two):
        del line["seconds"]
    assert one == two


def test_what_is_missing_or_unknown_is_named_before_anything_begins(tmp_path):
    _, err = binomctl(*RUN, "--tracker", "tensorbord", "--out", tmp_path / "run", code=2)
    assert "unknown tracker 'tensorbord'. Did you mean 'tensorboard'?" in err
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'wandb' else find(n, *a)\n"
    )
    done = in_a_process(*RUN, "--tracker", "wandb", "--out", tmp_path / "run",
                        PYTHONPATH=str(tmp_path))  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "tracker 'wandb' needs the package wandb" in done.stderr
    assert "pip install wandb" in done.stderr
    assert not (tmp_path / "run").exists()
