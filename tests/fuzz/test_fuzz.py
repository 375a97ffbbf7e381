"""Any input at the doors: a result or an error of ours, within five seconds.

BINOMCTL_FUZZ is how many inputs each door gets; `make fuzz` gives many and writes down what it
finds.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import layouts
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from binomctl.cli.application import app
from binomctl.errors import BinomctlError
from binomctl.files.pickles.unpickle import read_pickle
from binomctl.images.store import IMAGES, INDEX, open_store, verify
from binomctl.runs import RunDirectory
from binomctl.runs.listing import info
from binomctl.runs.resuming import outcome
from binomctl.settings.config import Config
from binomctl.settings.layers import load_config

MANY = int(os.environ.get("BINOMCTL_FUZZ", "60"))
EASY = settings(
    max_examples=MANY, deadline=None, derandomize=MANY <= 100, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
KEYS = [f"{section}.{key}" for section, rest in Config().model_dump().items()
        if isinstance(rest, dict) for key in rest]  # fmt: skip
KEYS += [*Config().model_dump(), "dataset.ways", "estimator.L", "model.hidden", "rule.fixed"]

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["1e-3", ".inf", "~", "auto", "binom", "0-5", "os:system", "!!python/name:x"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(max_size=8) | st.sampled_from(KEYS), inner, max_size=3), max_leaves=8)  # fmt: skip


def ends(function, *args):
    """Call; errors of ours are answers. Anything else, or five seconds, is a finding."""
    start = time.monotonic()
    try:
        function(*args)
    except BinomctlError as error:
        said = str(error)
    else:
        said = "fine"
    assert 0 < len(said) < 5000
    assert time.monotonic() - start < 5


def nested(key, value):
    for word in reversed(key.split(".")):
        value = {word: value}
    return value


@EASY
@given(key=st.sampled_from(KEYS), value=VALUES)
@pytest.mark.promise(25, fault="values of any type under every key of a configuration file")
def test_values_of_a_file(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "value.yaml"
    path.write_text(yaml.safe_dump(nested(key, value)))
    ends(load_config, path)


@EASY
@given(text=st.text(max_size=200) | st.binary(max_size=200))
@pytest.mark.promise(25, fault="any text or bytes as a configuration file")
def test_text_of_a_file(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    ends(load_config, path)


@EASY
@given(
    key=st.sampled_from(KEYS) | st.text(max_size=12),
    value=st.text(max_size=30) | SCALARS.map(str),
    equals=st.sampled_from(["=", "", "==", " = "]),
)
@pytest.mark.promise(25, fault="any --set")
def test_assignments(key, value, equals):
    ends(load_config, None, {}, [f"{key}{equals}{value}"])


@EASY
@given(
    data=st.binary(max_size=300),
    head=st.sampled_from([b"", b"\x80\x04", b"\x80\x02}q\x00(", b"(dp0\n"]),
)
@pytest.mark.promise(25, fault="any bytes as a pickle")
def test_pickles(tmp_path_factory, data, head):
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    path.write_bytes(head + data)
    ends(read_pickle, path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    import torch

    from binomctl.runs import Checkpoint

    path = tmp_path_factory.mktemp("fuzz") / "run"
    w = torch.ones(3)
    with RunDirectory.create(path, Config()) as made:
        for step in (1, 2):
            numbers = {"best": {"step": step, "value": 0.5, "since": 0}, "seconds": 1.0}
            made.log({"step": step, "train_loss": 1.0, "train_accuracy": 0.5})
            made.checkpoints.save(
                Checkpoint(step, {"w": w}, ("w",), {"m": w}, numbers), best=True, last=2
            )
    return path


FILES = ["run.json", "config.yaml", "metrics.jsonl", "report.json", "environment.json"]
FILES += ["checkpoints/index.json"]
FILES += [f"checkpoints/step-00000002/{name}"
          for name in ("manifest.json", "model.safetensors", "state.safetensors")]  # fmt: skip
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"{}", b"[]", b"null", b"3", b'"x"', b"[" * 100_000, b'{"a":' * 50_000,
                     b'{"schema": 7}', b'{"schema": "binomctl/run/2"}', b"\xff" * 9, b"1e999",
                     b'{"schema": "binomctl/checkpoint/2", "seal": []}', b"\x00" * 9]),
)  # fmt: skip


def everything(path: Path):
    info(path)
    outcome(path)
    found = RunDirectory.open(path)
    found.config()
    found.checkpoints.newest()
    found.checkpoints.load("last")
    found.checkpoints.kept()


@EASY
@given(name=st.sampled_from(FILES), content=HOSTILE, at=st.none() | st.integers(0, 400))
@pytest.mark.promise(25, fault="run folders in which a file is anything")
def test_run_folders(run, name, content, at):
    copy = run.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    path = copy / name
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(content if at is None else before[:at] + content + before[at + len(content) :])
    ends(everything, copy)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    from binomctl_datasets.image_folder import ImageFolder

    from binomctl.images.prepare import prepare

    root = tmp_path_factory.mktemp("pictures")
    layouts.folders(root, size=8)
    return prepare(ImageFolder(root=str(root), image_size=8).recipe, root).path


@EASY
@given(name=st.sampled_from([INDEX, IMAGES]), content=HOSTILE, at=st.none() | st.integers(0, 4000))
@pytest.mark.promise(25, fault="prepared data sets in which a file is anything")
def test_prepared_data_sets(store, name, content, at):
    path = store / name
    before = path.read_bytes()
    whole = content if at is None else before[:at] + content + before[at + len(content) :]
    try:
        path.write_bytes(whole)
        ends(lambda: verify(open_store(store), {}))
    finally:
        path.write_bytes(before)


WORDS = st.one_of(
    st.text(max_size=12), st.integers().map(str), st.floats().map(str),
    st.sampled_from(["0-5", "1,3,5", "5-1", "nan", "1e400", "-0", "8GiB", "90m", "12:00:00", "all",
                     "a=b=c", "seed=[", "model.x.y=1", "@/etc/passwd", "auto", "cuda:99", "\x00"]),
)  # fmt: skip
COMMANDS = [
    (["bounds"], ["--K", "--alpha", "--H", "--h", "--M", "--theorem", "--seed", "--output"]),
    (["train", "--dry-run", "--dataset", "sinusoid", "--set", "model.width=3"],
     ["--L", "--K", "--alpha", "--ways", "--seed", "--device", "--dataset", "--model", "--rule",
      "--engine", "--set", "--time-limit", "--resume", "--config", "--task-chunk"]),
    (["error-analysis", "--dataset", "no-such-data"],
     ["--L", "--C", "--estimators", "--init", "--checkpoint", "--dtype", "--set", "--output"]),
    (["profile", "--dataset", "no-such-data", "--plan"], ["--memory-budget", "--time-budget"]),
    (["eval"], ["--tasks", "--checkpoint", "--split", "--device"]),
    (["runs", "ls"], []),
    (["data", "verify"], ["--size", "--root", "--set"]),
]  # fmt: skip


@EASY
@given(
    command=st.sampled_from(COMMANDS), which=st.integers(0, 20), value=WORDS,
    more=st.lists(WORDS, max_size=2),
)  # fmt: skip
@pytest.mark.promise(25, fault="values on the command line")
def test_values_on_the_command_line(command, which, value, more):
    words, options = command
    given_ = [options[which % len(options)], value] if options else [value]
    answer = CliRunner().invoke(app, [*words, *given_, *more])
    error = answer.exception
    assert error is None or isinstance(error, BinomctlError | SystemExit), (words, given_, more)
