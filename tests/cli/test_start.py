"""How a command starts: what it imports, and what whoever waits is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from command import binomctl

from binomctl.sweeps.folder import SweepFolder
from binomctl.sweeps.grid import read_grid

TRAIN = ["train", "--dataset", "sinusoid", "--steps", 2, "--meta-batch", 2,
         "--set", "training.validation_tasks=2"]  # fmt: skip


def imported(*args: object) -> set[str]:
    """The modules that a command has imported at its end."""
    code = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules))))
sys.argv = ["binomctl", *{[str(a) for a in args]!r}]
from binomctl.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    binomctl(*TRAIN, "--out", folder / "one")
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "grid.yaml").write_text("common: {dataset.name: glyphs}\n")
    SweepFolder.create(folder / "sweep", read_grid(folder / "grid.yaml"))
    return folder / "sweep"


@pytest.mark.parametrize(
    "args", [["bounds"], ["runs", "ls"], ["runs", "show"], ["sweep", "status"], ["--help"]]
)
def test_what_computes_nothing_with_tensors_imports_no_torch(args, runs, sweep):
    where = {"ls": [runs], "show": [runs / "one"], "status": [sweep]}.get(args[-1], [])
    found = imported(*args, *where)
    assert "binomctl.cli" in found
    assert "torch" not in found


def test_a_short_training_imports_nothing_it_does_not_need(tmp_path):
    found = imported(*TRAIN, "--out", tmp_path / "run")
    assert "torch" in found
    unneeded = ("torch._dynamo", "torch._inductor", "torch._decomp.decompositions_for_jvp",
                "matplotlib", "requests", "submitit", "jinja2")  # fmt: skip
    assert not [name for name in unneeded if name in found]


def test_the_collector_rests_while_torch_is_imported():
    code = """
import gc
from binomctl.cli.loading import load_torch
before = gc.get_stats()[2]["collections"]
load_torch()
assert gc.get_stats()[2]["collections"] == before
assert gc.isenabled()
assert gc.get_freeze_count() > 100_000
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_who_waits_for_torch_is_told(tmp_path):
    """A torch that takes three seconds: the line is there long before it is."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time; time.sleep(3)")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    began = time.monotonic()
    code = "from binomctl.cli.loading import load_torch; load_torch()"
    with subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"loading torch ...\n"
        assert time.monotonic() - began < 2.5
        assert process.wait() == 0


GUARD = """
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            frame = sys._getframe()
            while frame is not None and frame.f_code.co_name != "load_torch":
                frame = frame.f_back
            if frame is None:
                raise AssertionError("torch is imported without load_torch")
sys.meta_path.insert(0, Guard())
from binomctl.cli import main
main()
"""


@pytest.mark.parametrize(
    "args",
    [
        ["sweep", "grid.yaml", "--dry-run"],
        ["report", "run"],
        ["init"],
        *(pytest.param(args, marks=pytest.mark.long) for args in (
            ["train", "--dataset", "sinusoid", "--dry-run"], ["eval", "run", "--tasks", "2"],
            ["plot", "run", "-o", "curve.svg"], ["verify", "run"], ["plugins"], ["doctor"],
            ["config", "show", "run"], ["compare", "run", "run", "--tasks", "2"],
            ["export", "run", "-o", "w.safetensors"], ["bounds", "--K", "2", "--certify"],
            ["error-analysis", "--dataset", "sinusoid", "--estimators", "fomaml", "--batches", "1"],
        )),
    ],
    ids=lambda args: args[0],
)  # fmt: skip
def test_torch_is_loaded_with_a_word_by_every_command(args, runs, tmp_path):
    grid = "common: {dataset.name: sinusoid}\nmethods: [{estimator.name: maml}]\n"
    (tmp_path / "grid.yaml").write_text(grid)
    (tmp_path / "run").symlink_to(runs / "one")
    done = subprocess.run([sys.executable, "-c", GUARD, *args], cwd=tmp_path, text=True,
                          capture_output=True, check=False, stdin=subprocess.DEVNULL)  # fmt: skip
    assert "without load_torch" not in done.stderr, done.stderr
    # Of one run `compare` says that there is nothing to compare.
    assert done.returncode == (2 if args[0] == "compare" else 0), done.stderr


def test_dir_shows_the_doors_and_no_machinery():
    code = """
import binomctl
print(*sorted({n for n in dir(binomctl) if not n.startswith("__")} ^ set(binomctl.__all__)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
