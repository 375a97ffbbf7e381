"""Grid files: which cells they mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import binomctl

from binomctl.errors import ConfigError
from binomctl.sweeps.folder import CellState, SweepFolder, remaining
from binomctl.sweeps.grid import read_grid

CONFIGS = Path(__file__).parents[2] / "configs"
GRID = """
base: base.yaml
common: {training.steps: 20}
cross: {seed: [0, 1], dataset.shots: [5, 10]}
methods:
  - estimator: {name: maml}
  - {estimator.name: [trunc, binom], estimator.L: [1, 2]}
  - {estimator.name: binom, estimator.L: 2, estimator.alpha_scaling: paper, config: more.yaml}
"""


def written(folder, text=GRID):
    (folder / "base.yaml").write_text("dataset: {name: sinusoid}\nadaptation: {alpha: 0.02}\n")
    (folder / "more.yaml").write_text("adaptation: {K: 7}\n")
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


def test_every_method_is_crossed_with_everything(tmp_path):
    cells = read_grid(written(tmp_path))
    assert len(cells) == (1 + 4 + 1) * 4
    assert len({c.name for c in cells}) == len(cells)
    one = next(c for c in cells if c.name == "sinusoid-trunc-L2-shots5-seed1")
    assert one.config.estimator.options == {"L": 2}
    assert (one.config.seed, one.config.training.steps, one.config.adaptation.alpha) == (
        1,
        20,
        0.02,
    )
    assert one.config.dataset.options["shots"] == 5
    last = cells[-1]
    assert last.config.adaptation.K == 7
    assert last.name == "sinusoid-binom-more-L2-alpha_scalingpaper-shots10-seed1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methds: []\n", r"grid.yaml:1: unknown key of a grid 'methds'. Did you mean 'methods'"),
        ("methods: []\n", "is no list of grids"),
        ("cross: {seed: []}\n", "seed has no values"),
        ("common: {training.stepps: 3}\n", r"unknown key 'training.stepps'. Did you mean"),
        ("methods: [{estimator.name: binm}]\n", "binm"),
        ("cross: {seed: [0, 0]}\n", "two cells are called"),
        ("base: 3\n", "no file nor a list of files"),
        ("base: nowhere.yaml\n", "nowhere.yaml"),
        ("common: [1]\n", "not keys with values"),
    ],
)
def test_what_no_cell_can_be_made_of_is_named(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        read_grid(written(tmp_path, text))


def test_a_cell_that_cannot_be_built_is_named_before_anything_starts(tmp_path):
    path = written(
        tmp_path, "base: base.yaml\nmethods: [{estimator.name: trunc, estimator.L: 9}]\n"
    )
    _, err = binomctl("sweep", path, "--out", tmp_path / "out", code=2)
    assert "cell sinusoid-trunc-L9-seed0: L = 9 is greater than K = 5" in err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_taken_is_named(tmp_path):
    path = written(tmp_path)
    folder = SweepFolder.create(tmp_path / "out", read_grid(path))
    assert SweepFolder.create(tmp_path / "out", read_grid(path)).names == folder.names
    other = written(tmp_path, GRID.replace("steps: 20", "steps: 21"))
    with pytest.raises(ConfigError, match=r"another configuration: training.steps"):
        SweepFolder.create(tmp_path / "out", read_grid(other))
    with pytest.raises(ConfigError, match="something else than a sweep"):
        SweepFolder.create(tmp_path, read_grid(path))
    _, err = binomctl("sweep", "status", tmp_path, code=4)
    assert "is no sweep" in err


def test_without_slurm_it_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    _, err = binomctl("sweep", written(tmp_path), "--executor", "slurm", code=7)
    assert "there is no sbatch" in err


def test_the_time_left():
    def cell(step, seconds, state="running", steps=100):
        left = seconds / step * (steps - step) if step else None
        return CellState("c", state, step, steps, seconds, left, "", "number", None, "")

    assert remaining([cell(0, 0.0, "waiting")], 1) is None
    assert remaining([cell(50, 5.0), cell(0, 0.0, "waiting")], 1) == pytest.approx(15.0)
    assert remaining([cell(50, 5.0), cell(0, 0.0, "waiting")], 2) == pytest.approx(10.0)
    assert remaining([cell(100, 9.0, "done")], 1) == 0.0


@pytest.mark.parametrize(
    ("name", "cells"),
    [("table1", 180), ("table2", 192), ("table1-glyphs", 288), ("table1-glyphs-quick", 12),
     ("table2-glyphs", 96), ("comparison-glyphs", 528)],
)  # fmt: skip
def test_the_tables_of_the_paper_are_grids(name, cells):
    found = read_grid(CONFIGS / f"{name}.yaml")
    assert len(found) == cells


def test_a_method_s_file_wins_over_what_is_common(tmp_path):
    """Reptile's step of 1.0 stands in its file; a common meta_lr is of the others."""
    (tmp_path / "own.yaml").write_text("training: {meta_lr: 1.0, optimizer: sgd}\n")
    (tmp_path / "grid.yaml").write_text(
        "common: {training.meta_lr: 3.0e-3, training.steps: 7}\n"
        "methods:\n"
        "  - {estimator.name: maml}\n"
        "  - {config: own.yaml, estimator.name: fomaml}\n"
        "  - {config: own.yaml, estimator.name: reptile, training.meta_lr: 0.5}\n"
    )
    cells = [cell.config.training for cell in read_grid(tmp_path / "grid.yaml")]
    assert [cell.meta_lr for cell in cells] == [3e-3, 1.0, 0.5]
    assert {cell.steps for cell in cells} == {7}


def test_a_sweep_of_an_older_version_goes_on(tmp_path):
    """Its files lack a key that has come since, which has its default."""
    (tmp_path / "grid.yaml").write_text("common: {dataset.name: sinusoid, training.steps: 7}\n")
    cells = read_grid(tmp_path / "grid.yaml")
    folder = SweepFolder.create(tmp_path / "sweep", cells)
    (name,) = folder.names
    assert SweepFolder.begun(folder.path, cells) == {name}
    text = folder.config(name).read_text()
    folder.config(name).write_text(text.replace("trackers: []\n", ""))
    assert "trackers" not in folder.config(name).read_text()
    assert SweepFolder.begun(folder.path, cells) == {name}
    SweepFolder.create(folder.path, cells)
    assert folder.config(name).read_text() == text
    (tmp_path / "grid.yaml").write_text("common: {dataset.name: sinusoid, training.steps: 8}\n")
    assert not SweepFolder.begun(folder.path, read_grid(tmp_path / "grid.yaml"))
