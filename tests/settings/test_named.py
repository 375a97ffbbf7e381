"""What comes with binomctl is called by its name, from any folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import binomctl, here

import binomctl as package
from binomctl.errors import ConfigError
from binomctl.settings.layers import load_config
from binomctl.settings.named import find, folder, names
from binomctl.sweeps.grid import read_grid

CONFIG_DIR = Path(__file__).parents[2] / "configs"


def test_every_file_has_a_name_and_is_a_configuration_or_a_grid():
    assert folder() == CONFIG_DIR
    every = {p.relative_to(CONFIG_DIR).as_posix() for p in CONFIG_DIR.rglob("*.yaml")}
    configs, grids = names(), names(grid=True)
    assert sorted(every) == sorted(f"{name}.yaml" for name in configs + grids)
    assert {"binom2026", "table1/glyphs-5way", "methods/anil"} <= set(configs)
    assert {"table1-glyphs", "table1-glyphs-quick"} <= set(grids)
    for name in grids:
        assert find(Path(name), grid=True) == CONFIG_DIR / f"{name}.yaml"


@pytest.mark.parametrize("name", ["binom2026", "table1/glyphs-5way", "methods/anil"])
def test_a_name_is_its_file(name):
    by_name, _ = load_config(Path(name))
    assert by_name == load_config(CONFIG_DIR / f"{name}.yaml")[0]
    assert by_name != load_config()[0]


def test_a_file_of_the_working_folder_wins(tmp_path):
    (tmp_path / "sinusoid").mkdir()  # a folder is none
    assert load_config(Path("sinusoid"))[0].dataset.name == "sinusoid"
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/anil").write_text("seed: 7\n")
    config, places = load_config(Path("methods/anil"))
    assert (config.seed, config.rule.name) == (7, "gd")
    assert places["seed"] == "methods/anil:1"


def test_every_command_takes_names():
    shown = json.loads(binomctl("config", "show", "sinusoid", "--json")[0])["keys"]
    assert shown["model.width"]["value"] == 40
    assert shown["model.width"]["origin"].endswith("sinusoid.yaml:3")
    differ = json.loads(binomctl("config", "diff", "finn2017", "binom2026", "--json")[0])
    assert differ["differences"]["training.clip_value"] == {"a": 10.0, "b": None}
    cells = json.loads(binomctl("sweep", "table1-glyphs-quick", "--dry-run", "--json")[0])
    assert len(cells["cells"]) == 2 * 6
    for command in ("train", "error-analysis", "profile"):
        done = here(command, "--config", "sinusiod")
        assert done.returncode == 2
        assert "Did you mean 'sinusoid'?" in done.stderr


def test_a_grid_of_one_s_own_stands_on_names(tmp_path):
    grid = tmp_path / "own.yaml"
    grid.write_text("base: sinusoid\nmethods: [{config: methods/anil, seed: [0, 1]}]\n")
    cells = read_grid(grid)
    assert [c.config.rule.name for c in cells] == ["anil", "anil"]
    assert cells[0].config.dataset.name == "sinusoid"
    (tmp_path / "sinusoid").write_text("dataset: {name: sinusoid, shots: 3}\n")
    assert read_grid(grid)[0].config.dataset.options["shots"] == 3


@pytest.mark.parametrize(
    ("name", "grid", "said", "hint"),
    [
        ("sinusiod", False, "unknown configuration 'sinusiod'. Did you mean 'sinusoid'?", "path"),
        ("anil", False, "Did you mean 'methods/anil'?", "path"),
        ("../configs/sinusoid", False, "unknown configuration '../configs/sinusoid'", "path"),
        (
            "table1-glyfs",
            True,
            "unknown grid 'table1-glyfs'. Did you mean 'table1-glyphs'?",
            "path",
        ),
        ("table1-glyphs", False, "is a grid of configurations", "sweep table1-glyphs"),
        ("sinusoid", True, "is a configuration, not a grid", "train --config sinusoid"),
        (
            "configs/sinusoid.yaml",
            False,
            "there is no file configs/sinusoid.yaml",
            "name: sinusoid",
        ),
        ("configs/table1-glyphs.yaml", True, "there is no file", "name: table1-glyphs"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(name, grid, said, hint):
    with pytest.raises(ConfigError) as caught:
        find(Path(name), grid=grid)
    assert said in str(caught.value)
    assert hint in caught.value.hint


def test_the_package_tells_its_version_and_its_doors():
    listed = dir(package)
    assert {*package.__all__, "__version__"} <= set(listed)
    assert binomctl("--version")[0].split() == ["binomctl", package.__version__]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
