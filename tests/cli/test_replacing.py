"""A file that is there is not replaced unasked, and that is said before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import binomctl

from binomctl.cli.outputs import check_outputs

COMMANDS = {
    "bounds": ["bounds", "--theorem", "3.6"],
    "error-analysis": ["error-analysis", "--batches", "1", "--meta-batch", "2", "--L", "1"],
    "profile": ["profile", "--seconds", "0.01", "--estimators", "fomaml"],
    "data show": ["data", "show", "sinusoid"],
}
SLOW = [
    "binomctl.analysis.setup.starts",
    "binomctl.problem.build.build_problem",
    "binomctl.theory.bounds.curves",
    "binomctl.problem.datasets.build_dataset",
]


def computing(*args: object, **kwargs: object) -> None:
    raise AssertionError("it computes first")


CASES = [(name, "--output", "there.svg") for name in COMMANDS]
CASES += [(name, "--csv", "there.csv") for name in COMMANDS if name != "data show"]
CASES += [("profile", "--trace", "there.json")]


@pytest.mark.parametrize(("name", "flag", "file"), CASES)
def test_a_file_that_is_there_is_refused_first(name, flag, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for slow in SLOW:
        monkeypatch.setattr(slow, computing)
    (tmp_path / file).write_text("mine")
    _, err = binomctl(*COMMANDS[name], flag, file, code=2)
    assert f"{file} is there already" in err
    assert "--force" in err
    assert "another file" in err
    assert (tmp_path / file).read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "file"), [(["bounds", "--plot"], "bounds.png"),
                       (["data", "show", "sinusoid"], "episode.png")],
)  # fmt: skip
def test_a_default_name_that_is_taken_gets_a_number(args, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_text("mine")
    second, third = (file.replace(".", f"-{n}.") for n in (2, 3))
    assert f"wrote {second}" in binomctl(*args)[1]
    assert f"wrote {third}" in binomctl(*args)[1]
    assert (tmp_path / file).read_text() == "mine"
    assert f"wrote {file}" in binomctl(*args, "--force")[1]
    assert (tmp_path / file).read_bytes() != b"mine"


@pytest.mark.usefixtures("memory_known")
@pytest.mark.parametrize("name", COMMANDS)
def test_force_replaces(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.svg").write_text("mine")
    binomctl(*COMMANDS[name], "--output", "there.svg", "--force")
    assert (tmp_path / "there.svg").read_text().startswith("<?xml")


def test_the_second_picture_is_looked_at_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SLOW[0], computing)
    (tmp_path / "e-estimates.png").write_text("mine")
    _, err = binomctl(*COMMANDS["error-analysis"], "--estimates", "--output", "e.png", code=2)
    assert "e-estimates.png is there already" in err


def test_a_folder_and_a_missing_folder_are_refused_with_force_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.svg").mkdir()
    assert "it is a folder" in binomctl("bounds", "--output", "d.svg", "--force", code=2)[1]
    assert "no folder no" in binomctl("bounds", "--output", "no/d.svg", "--force", code=2)[1]


def test_the_stream_of_the_terminal_is_no_file_to_keep(tmp_path):
    check_outputs(None, tmp_path / "new.csv", force=False)
    with pytest.MonkeyPatch.context() as patch:  # as where stdout goes into a file
        patch.setattr(Path, "is_file", lambda self: True)
        check_outputs(Path("/dev/stdout"), force=False)
