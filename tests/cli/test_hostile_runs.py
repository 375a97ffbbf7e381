"""A run folder that somebody sent, given to every command that opens one."""

from __future__ import annotations

import sys

import pytest
from command import binomctl, in_a_process

NETWORK = """
from pathlib import Path
from torch import nn
Path(r"{mark}").touch()

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
"""
SMALL = ("--set", "training.validate_every=1", "--set", "training.validation_tasks=2")


@pytest.fixture(params=["a module of the folder", "an installed module"])
def sent(request, tmp_path, monkeypatch):
    """A whole run of another user, and the file that appears where its network is imported."""
    run, mark = tmp_path / "run", tmp_path / "imported"
    project = tmp_path / "project"
    project.mkdir()
    (project / "hostile_net.py").write_text(NETWORK.format(mark=mark))
    made = in_a_process(
        "train", "--dataset", "sinusoid", "--set", "model.import=hostile_net:Net",
        "--steps", 2, "--out", run, *SMALL,
        cwd=project, XDG_STATE_HOME=str(tmp_path / "theirs"),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert mark.exists()
    mark.unlink()
    (run / "report.json").unlink()  # not finished: a finished run needs no import to be told so
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "ours"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    if request.param == "an installed module":
        sys.path.append(str(project))
    else:
        (run / "hostile_net.py").write_text((project / "hostile_net.py").read_text())
        monkeypatch.chdir(run)
    yield run, mark
    sys.modules.pop("hostile_net", None)


@pytest.mark.promise(22, fault="a run folder from elsewhere, which names a network to import")
def test_no_command_imports_what_a_run_folder_names(sent):
    run, mark = sent
    for command in (
        ("eval", run),
        ("verify", run),
        ("error-analysis", "--checkpoint", run, "--batches", 1),
        ("error-analysis", "--along", run, "--batches", 1),
        ("train", "--resume", run, "--steps", 3),
    ):
        _, said = binomctl(*command, code=4)
        assert "not made by you on this machine" in " ".join(said.split()), command
        assert "--trust" in said
        assert not mark.exists(), command
        assert "hostile_net" not in sys.modules
    binomctl(
        "error-analysis", "--checkpoint", run, "--import", "hostile_net:Net", "--batches", 1,
        "--set", "training.meta_batch=2", "--json",
    )  # fmt: skip
    assert mark.exists()


def test_trust_without_a_folder_has_nothing_to_trust():
    _, said = binomctl("error-analysis", "--trust", code=2)
    assert "--run" in said
