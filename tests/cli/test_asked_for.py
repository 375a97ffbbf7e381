"""What is asked for is done or refused: nothing is ignored, nothing is a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import filelock
import layouts
import pytest
import torch
from command import binomctl, here

import binomctl as package
from binomctl.errors import ConfigError, DataError
from binomctl.files import atomic
from binomctl.options import build, describe_options, option
from binomctl.runs.lock import is_locked, locked
from binomctl.sweeps.cards import gpus_here
from binomctl.sweeps.folder import SweepFolder
from binomctl.sweeps.grid import read_grid

TINY = ["--steps", 2, "--meta-batch", 2, "--set", "training.validation_tasks=2"]
GRID = "common: {dataset.name: sinusoid, training.steps: 2}\nmethods: [{estimator.name: maml}]\n"
NET = """from torch import nn
class Net(nn.Linear):
    def __init__(self, in_shape, out_dim):
        super().__init__(in_shape[0], out_dim)
"""


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "waves"
    binomctl("train", "--dataset", "sinusoid", *TINY, "--out", run)
    return run


@pytest.fixture(scope="module")
def decays(tmp_path_factory):
    """Two runs of a problem with a single task, by two methods."""
    folder = tmp_path_factory.mktemp("decays")
    for estimator in ("maml", "fomaml"):
        binomctl("train", "--problem", "weight-decay", "--steps", 1, "--K", 2, "--estimator",
                 estimator, "--out", folder / estimator)  # fmt: skip
    return folder


def test_a_problem_without_a_seed_is_evaluated_and_its_json_has_no_infinity(decays):
    out, _ = binomctl("eval", decays / "maml", "--json")
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["n"] == 1
    assert found["ci95"] is found["standard_error"] is None
    done = here("eval", decays / "maml", "--seed", 3)
    assert done.returncode == 2
    assert "--seed: data set 'weight-decay' has no seed" in done.stderr


def test_methods_on_one_task_are_compared_without_an_interval(decays, tmp_path):
    out, _ = binomctl("compare", decays)
    assert "not separable: n = 1 tells nothing" in out
    assert "inf" not in out
    out, _ = binomctl("compare", decays, "--json")
    (pair,) = [p for p in json.loads(out)["pairs"] if p["difference"] is not None]
    assert pair["ci95"] is None
    (tmp_path / "compared.json").write_text(out)
    binomctl("plot", "compared.json")
    binomctl("report", decays)


def test_reliability_is_refused_before_anything_is_computed(waves, monkeypatch):
    monkeypatch.setattr(
        "binomctl.cli.evaluating.Evaluation.cells", lambda *_: pytest.fail("it began")
    )
    done = here("eval", waves, "--reliability", "sure.png")
    assert done.returncode == 2
    assert "--reliability draws how sure a classifier is" in done.stderr


@pytest.mark.parametrize("given", [["--sheet", "sheet.png"], ["--invert"]])
def test_options_of_pictures_are_refused_for_numbers(waves, given):
    Path("numbers.csv").write_text("0.1,0.2\n0.3,0.4\n")
    files = ["--support", "numbers.csv", "--query", "numbers.csv"]
    done = here("predict", waves, *files, *given)
    assert done.returncode == 2
    assert f"{given[0]} is for pictures" in done.stderr


def test_an_example_that_is_no_number_is_not_taken_for_a_heading(waves):
    Path("numbers.csv").write_text("0.1,O.2\n0.3,0.4\n")
    done = here("predict", waves, "--support", "numbers.csv", "--query", "numbers.csv")
    assert done.returncode == 3
    assert "numbers.csv:1: 0.1, O.2 are not all numbers" in done.stderr


def test_vectors_have_no_picture(tmp_path):
    path = layouts.features(tmp_path / "features.npz")
    done = here("data", "show", "embeddings", "--set", f"dataset.path={path}")
    assert done.returncode == 2
    assert "has no pictures to draw: its examples are [8]" in done.stderr


def test_curves_of_a_network_of_one_s_own_are_drawn(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    Path("plotted_net.py").write_text(NET)
    binomctl("train", "--dataset", "sinusoid", *TINY, "--set", "model.import=plotted_net:Net",
             "--out", "own")  # fmt: skip
    binomctl("plot", "own")
    shutil.copytree("own", "copied")
    done = here("plot", "copied", "-o", "copied.svg")  # a folder from elsewhere, for all it knows
    assert done.returncode == 0 or "--trust" in done.stderr
    binomctl("plot", "copied", "--trust", "-o", "copied.svg", "--force")


def test_a_name_that_python_cannot_import_is_refused_for_an_export(waves):
    done = here("export", waves, "-o", "5-way.safetensors")
    assert done.returncode == 2
    assert "Name it network_5_way.safetensors." in done.stderr
    binomctl("export", waves, "-o", "network_5_way.safetensors")


def test_nothing_is_compared_with_what_has_saved_nothing(waves, tmp_path):
    shutil.copytree(waves, tmp_path / "one")
    binomctl("train", "--dataset", "sinusoid", *TINY, "--estimator", "fomaml", "--out", "two")
    shutil.rmtree("two/checkpoints")
    Path("two/checkpoints").mkdir()
    done = here("compare", "one", "two")
    assert done.returncode == 2
    assert "two has saved nothing yet" in done.stderr


def test_runs_are_listed_while_their_files_go(waves, tmp_path):
    shutil.copytree(waves, tmp_path / "runs" / "one")
    (tmp_path / "runs" / "one" / "gone").symlink_to("nowhere")  # a file that was there just now
    out, _ = binomctl("runs", "ls", tmp_path / "runs")
    assert "done" in out


def test_a_run_that_begins_waits_for_one_who_only_looks(tmp_path):
    held = locked(tmp_path)
    with pytest.raises(ConfigError, match="another process is writing"):
        locked(tmp_path, wait=0.05)
    assert is_locked(tmp_path)
    held.release()
    locked(tmp_path).release()


def test_a_colleague_s_run_is_not_taken_for_a_running_one(tmp_path, monkeypatch):
    locked(tmp_path).release()
    (tmp_path / ".lock").touch()

    def refused(*_args, **_options):
        raise PermissionError

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("given", [["--partition", "gpu"], ["--ram", "4"], ["--slurm", "qos=x"]])
def test_options_of_slurm_are_refused_for_cells_that_run_here(given):
    Path("grid.yaml").write_text(GRID)
    done = here("sweep", "grid.yaml", *given)
    assert done.returncode == 2
    assert f"{given[0]}: only Slurm listens to that" in done.stderr


def test_an_option_may_stand_before_the_grid():
    Path("grid.yaml").write_text(GRID)
    out, _ = binomctl("sweep", "--dry-run", "grid.yaml")
    assert out.strip()
    done = here("sweep", "status", "sweeps", "--watch", "--json")
    assert "--watch and --json exclude each other" in done.stderr


def test_a_cell_without_a_finite_validation_has_failed(tmp_path):
    Path("grid.yaml").write_text(GRID)
    folder = SweepFolder.create(tmp_path / "sweep", read_grid(Path("grid.yaml")))
    (name,) = folder.names
    binomctl("train", "--config", folder.config(name), "--out", folder.path / name)
    assert folder.finished(name)
    file = folder.path / name / "report.json"
    report = json.loads(file.read_text())
    report["best"]["value"] = None
    file.write_text(json.dumps(report))
    assert not folder.finished(name)
    (state,) = folder.states()
    assert (state.state, state.reason) == ("failed", "no validation gave a finite mse")


def test_gpus_are_told_by_number(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert gpus_here() == [1, 3]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpus_here() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a8f")
    with pytest.raises(ConfigError, match="names GPUs otherwise than by number: GPU-5a8f"):
        gpus_here()


@dataclass(frozen=True)
class Needing:
    order: int
    names: tuple[str, ...] = option(("a",), "of things")


def test_an_option_without_a_default_is_asked_for():
    with pytest.raises(ConfigError, match="no default for option 'order'") as told:
        build(Needing, {}, "estimator 'needing'", "estimator")
    assert told.value.hint == "Give it: --set estimator.order=..."
    json.dumps([vars(one) for one in describe_options(Needing)])


def test_a_learner_takes_whole_steps_and_a_label_an_example():
    binomctl("train", "--ways", 3, *TINY, "--set", "model.filters=2", "--out", "letters")
    learner = package.load("letters")
    x, y = torch.rand(6, 1, 28, 28), torch.tensor([0, 1, 2] * 2)
    for steps in (0, -1):
        with pytest.raises(ConfigError, match="must be at least 1"):
            learner.adapt(x, y, steps=steps)
    with pytest.raises(DataError, match=re.escape("y is [6, 1], expected a label")):
        learner.adapt(x, y[:, None])


def test_a_file_is_closed_before_it_is_renamed(tmp_path, monkeypatch):
    """Windows renames no open file."""
    real, opened = os.replace, []

    def replace(source, target):
        links = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                 if os.path.islink(f"/proc/self/fd/{n}")]  # fmt: skip
        opened.extend(link for link in links if link == str(source))
        real(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list a process's open files")
    monkeypatch.setattr(atomic.os, "replace", replace)
    atomic.write_atomic(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert not opened
