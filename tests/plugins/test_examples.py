"""The outside plugin of plugins/examples/, installed by pip as its author's users would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import in_a_process

from binomctl.settings import registry

EXAMPLES = sorted(
    p.parent for p in (Path(__file__).parents[2] / "plugins/examples").glob("*/*.toml")
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that pip installed the examples to, from copies: a build leaves files there."""
    folder = tmp_path_factory.mktemp("installed")
    for example in EXAMPLES:
        copy = folder / "sources" / example.name
        shutil.copytree(example, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        pip += ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site")]
        done = subprocess.run([*pip, str(copy)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def command(site):
    def run(*args):
        path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        done = in_a_process(*args, PYTHONPATH=path, COLUMNS="120")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_it_is_not_in_the_house_already():
    assert EXAMPLES
    assert "richardson" not in registry.names("estimator")


@pytest.mark.long
def test_an_installed_example_is_listed_trains_and_is_analysed(command):
    listed = json.loads(command("plugins", "list", "--json"))["plugins"]
    (found,) = [p for p in listed if p["name"] == "richardson"]
    assert (found["distribution"], found["failure"]) == ("binomctl-richardson 0.1.0", "")
    assert [o["name"] for o in found["options"]] == ["segments"]
    small = ["--dataset", "sinusoid", "--K", 8, "--json"]
    report = json.loads(
        command("train", "--estimator", "richardson", "--rule", "meta-sgd", "--steps", 2,
                "--meta-batch", 2, "--set", "training.validation_tasks=2", *small)
    )  # fmt: skip
    assert report["estimator"] == {"name": "richardson", "segments": 1}
    said = json.loads(
        command("error-analysis", "--estimators", "fomaml,richardson,richardson:segments=2",
                "--batches", 5, *small)
    )  # fmt: skip
    first, one, two = (row["relative"]["median"] for row in said["errors"])
    assert first > 5 * one > 0
    assert two < 1e-12, "segments of one or two steps are exact"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
@pytest.mark.long
def test_its_own_tests_pass(example):
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=example, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
