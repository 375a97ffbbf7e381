"""`binomctl init`: a commented configuration, by questions or by options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command import binomctl, here

from binomctl.settings import registry
from binomctl.settings.layers import flat, load_config


def explained(text):
    """Every key has a comment, beside it or above it."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\s*\w+:", line):
            beside = re.search(r"  # \S", line)
            above = lines[number - 1].strip().startswith("#")
            assert beside or above, line
            assert len(line) <= 100, line
    return yaml.safe_load(text)


def test_options_alone_write_a_file_that_trains(tmp_path):
    binomctl("init", "--dataset", "sinusoid", "--estimator", "trunc", "--budget", 2)
    data = explained((tmp_path / "binomctl.yaml").read_text())
    assert data["dataset"]["name"] == "sinusoid"
    assert data["estimator"] == {"name": "trunc", "L": 2}
    assert data["training"]["steps"] == 2
    _, said = binomctl("train", "--config", "binomctl.yaml", "--json", "--set",
                       "training.validation_tasks=2", "--meta-batch", 2)  # fmt: skip
    assert "runs/sinusoid-trunc-L2-seed0" in said
    shown, _ = load_config(Path("binomctl.yaml"))
    assert shown.model.name == "mlp", "what its data set recommends"


def test_without_options_it_says_what_binomctl_does_anyway(tmp_path):
    binomctl("init")
    config, _ = load_config(Path("binomctl.yaml"))
    ours, plain = (flat(c.model_dump(mode="json")) for c in (config, load_config()[0]))
    assert {key: ours[key] for key in plain} == plain


@pytest.mark.parametrize("name", [*registry.names("dataset"), *registry.names("problem")])
def test_every_data_set_s_file_is_accepted(name, tmp_path):
    binomctl("init", "--dataset", name, "--out", "own.yaml")
    text = (tmp_path / "own.yaml").read_text()
    config, _ = load_config(Path("own.yaml"))
    expected, _ = load_config(overrides={"dataset.name": name})
    assert config.dataset.name == explained(text)["dataset"]["name"] == name
    assert config.training.steps == expected.training.steps
    assert config.model == expected.model


@pytest.mark.parametrize("name", registry.names("estimator"))
def test_every_estimator_s_file_is_accepted(name, tmp_path):
    binomctl("init", "--estimator", name, "--out", "own.yaml")
    explained((tmp_path / "own.yaml").read_text())
    config, _ = load_config(Path("own.yaml"))
    made = registry.create("estimator", name, config.estimator.options)
    assert made == registry.create("estimator", name, {})


def test_a_time_becomes_steps_by_a_trial():
    _, said = binomctl("init", "--dataset", "sinusoid", "--budget", "20s")
    short = load_config(Path("binomctl.yaml"))[0].training
    assert "trying: " in said
    binomctl("init", "--dataset", "sinusoid", "--budget", "1h", "--force")
    long = load_config(Path("binomctl.yaml"))[0].training
    assert 1 <= short.steps < long.steps
    assert short.validate_every <= short.steps


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "binomctl.yaml"
    path.write_text("seed: 3\n")
    done = here("init")
    assert done.returncode == 2
    assert "binomctl.yaml is there already" in done.stderr
    assert "--force" in done.stderr
    assert path.read_text() == "seed: 3\n"
    binomctl("init", "--force")
    assert "estimator:" in path.read_text()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--dataset", "sinusiod"], "Did you mean 'sinusoid'?"),
        (["--estimator", "binm"], "Did you mean 'binom'?"),
        (["--budget", "much"], "budget 'much' is neither a number of meta-steps nor a length"),
        (["--budget", "0"], "budget '0' is neither"),
        (["--budget", "9" * 5000], "is neither a number of meta-steps nor a length"),
        (["--out", "no/such/folder.yaml"], "there is no folder no/such"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(args, said, tmp_path):
    done = here("init", *args)
    assert done.returncode == 2
    assert said in done.stderr.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_on_a_terminal_it_asks_three_questions(tmp_path):
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    answers = b"sinusiod\nsinusoid\n\nmuch\n7\n"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "binomctl", "init"], cwd=tmp_path, stdin=theirs, stdout=theirs,
        stderr=theirs, env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, answers)
    said = b""
    while True:
        try:
            part = os.read(ours, 1024)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait() == 0, said.decode()
    text = said.decode()
    assert text.count("What data") == 2, "asked again after an answer that cannot be"
    assert text.count("Which estimator") == 1
    assert text.count("What budget") == 2
    assert "Did you mean 'sinusoid'?" in text
    config, _ = load_config(tmp_path / "binomctl.yaml")
    named = (config.dataset.name, config.estimator.name, config.training.steps)
    assert named == ("sinusoid", "binom", 7)
