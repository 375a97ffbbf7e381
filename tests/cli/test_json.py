"""What commands print with --json is what docs/schemas.yaml, and docs/json.md of it, say."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import runpy
from contextlib import nullcontext
from pathlib import Path

import pytest
from command import here, known_memory
from PIL import Image

import binomctl

PAGE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "json_page.py"))
faults, SCHEMAS = PAGE["faults"], PAGE["read"]()[1]
WAVES = ["--dataset", "sinusoid"]
TINY = ["--steps", 2, "--meta-batch", 1, "--set", "training.validation_tasks=2"]
SMALL = [*WAVES, "--meta-batch", 2]
COMMANDS = [
    ["train", *WAVES, "--dry-run"],
    ["train", *WAVES, *TINY, "--out", "runs/a", "--set", "training.checkpoint_every=1"],
    ["train", *WAVES, *TINY, "--out", "runs/b", "--estimator", "fomaml"],
    ["train", *TINY, "--out", "letters", "--set", "model.filters=4", "--ways", 2],
    ["eval", "runs/a", "--tasks", 4],
    ["eval", "letters", "--tasks", 4],
    ["eval", "runs/a", "--tasks", 4, "--steps", "1,2"],
    ["predict", "runs/a", "--support", "numbers.csv", "--query", "numbers.csv"],
    ["predict", "letters", "--support", "photos", "--query", "photos"],
    ["adapt", "runs/a", "--support", "numbers.csv", "--out", "adapted"],
    ["export", "runs/a", "-o", "w.safetensors"],
    ["compare", "runs", "--tasks", 4],
    ["error-analysis", *SMALL, "--estimators", "binom,maml", "--L", 1, "--batches", 2, "--spectrum",
     "--estimates"],
    ["error-analysis", "--along", "runs/a", "--estimators", "fomaml", "--batches", 1],
    ["profile", *SMALL, "--estimators", "fomaml", "--seconds", 0.1],
    ["profile", *SMALL, "--estimators", "fomaml", "--plan", "--time-budget", "60s"],
    ["bounds", "--K", 3, "--theorem", "3.8", "--certify", "--beyond"],
    ["data", "prepare", "image-folder", "--root", "photos", "--size", 28],
    ["data", "verify", "image-folder", "--root", "photos", "--size", 28, "--partial"],
    ["data", "list"],
    ["sweep", "grid.yaml", "--dry-run"],
    ["sweep", "grid.yaml", "--out", "sweep"],
    ["sweep", "status", "sweep"],
    ["runs", "ls", "runs"],
    ["runs", "show", "runs/a"],
    ["verify", "runs/a"],
    ["plugins"],
    ["plugins", "new", "rule", "own"],
    ["doctor"],
    ["config", "diff", "runs/a", "runs/b"],
    ["config", "keys", "clip"],
    ["config", "show", "runs/a"],
]  # fmt: skip
GRID = """common: {dataset.name: sinusoid, training.steps: 2, training.meta_batch: 1}
methods:
  - {estimator.name: maml, training.validation_tasks: 2}
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What every command printed, in order."""
    folder = tmp_path_factory.mktemp("json")
    out = []
    with contextlib.chdir(folder):
        Path("numbers.csv").write_text("0.1,0.2\n0.3,0.4\n")
        Path("grid.yaml").write_text(GRID)
        for name, levels in {"a": (0, 40), "b": (80, 120), "c": (160, 200)}.items():
            Path("photos", name).mkdir(parents=True)
            for level in levels:
                Image.new("L", (28, 28), level).save(f"photos/{name}/{level}.png")
        for args in COMMANDS:
            # A plan starts four processes to measure memory; the profile before it starts one.
            with known_memory() if "--plan" in args else nullcontext():
                done = here(*args, "--json")
            assert done.returncode == 0, (args, done.stderr)
            out.append((args, json.loads(done.stdout)))
    return out


def test_every_output_is_as_its_schema_says(printed):
    for args, value in printed:
        assert not faults(value), args
    for _, value in printed:  # parts that are maps in the table, as eval-grid says of its results
        if value["schema"] == "binomctl/eval-grid/1":
            assert not any(faults(one) for one in value["results"])


def test_every_schema_is_of_a_command_that_was_called(printed):
    assert {value["schema"].removeprefix("binomctl/") for _, value in printed} == set(SCHEMAS)


OF_FILES = {
    "adapted/1",
    "checkpoint/2",
    "images/1",
    "index/1",
    "origin/2",
    "run/2",
    "scores/1",
    "sweep/1",
}


def test_every_schema_in_the_source_is_described():
    source = "".join(path.read_text() for path in Path(binomctl.__file__).parent.rglob("*.py"))
    assert set(re.findall(r"binomctl/([a-z-]+/\d)", source)) - OF_FILES == set(SCHEMAS)


def test_what_differs_is_found(printed):
    value = next(v for _, v in printed if v["schema"] == "binomctl/eval/1")
    for change, said in (
        ({"mean": "0.5"}, "eval/1.mean is '0.5', not number"),
        ({"n": True}, "eval/1.n is True, not whole"),
        ({"median": 0.5}, "eval/1.median is not described"),
    ):
        assert faults({**value, **change}) == [said]
    less = copy.deepcopy(value)
    del less["split"]
    assert faults(less) == ["eval/1.split is not there"]
