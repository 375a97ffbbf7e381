"""The wheel and the source distribution, built and installed where nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
pytest.importorskip("hatchling", reason="hatchling builds the distributions: pip install hatchling")


def built(source, out, what):
    """Build a source tree; the one file that comes of it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", what, "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The source distribution, the wheel made of it, and the wheel made of this tree."""
    folder = tmp_path_factory.mktemp("distributions")
    source = built(ROOT, folder / "sdist", "sdist")
    with tarfile.open(source) as file:
        file.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return source, built(unpacked, folder / "of-sdist", "wheel"), built(ROOT, folder / "w", "wheel")


def needed(file):
    """What a wheel's metadata ask for without extras, and what that asks for, as distributions."""
    with zipfile.ZipFile(file) as wheel:
        (metadata,) = [n for n in wheel.namelist() if n.endswith("METADATA")]
        lines = wheel.read(metadata).decode().split("\n\n")[0].splitlines()
    asked = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-")]
    out, queue = {}, [text for text in asked if not text.startswith("Requires-Python")]
    while queue:
        requirement = Requirement(queue.pop())
        extras = requirement.extras or {""}
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": e}) for e in extras
        ):
            continue
        if requirement.name in out:
            continue
        try:
            out[requirement.name] = found = distribution(requirement.name)
        except PackageNotFoundError:  # of another platform
            continue
        queue += found.requires or []
    return out


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """An environment with the wheel, what its metadata ask for, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for found in needed(distributions[1]).values():
        site = Path(str(found.locate_file("")))
        tops = {Path(file).parts[0] for file in found.files or []} - {"..", "__pycache__"}
        for top in tops:
            link = dependencies / top
            if not link.exists():
                link.symlink_to(site / top)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    pip += ["--no-index", "--disable-pip-version-check", distributions[1]]
    subprocess.run(pip, check=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    return folder / "env" / "bin"


@pytest.fixture
def run(installed, tmp_path):
    """Run a program of the bare environment in an empty folder, as a user who has nothing yet."""
    here, home = tmp_path / "empty", tmp_path / "home"
    here.mkdir()
    home.mkdir()

    def program(name, *args):
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"}
        command = [installed / name, *map(str, args)]
        done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    program.folder = here
    return program


def contents(file):
    with zipfile.ZipFile(file) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if "dist-info" not in name}


def test_the_wheel_has_all_that_the_tree_has(distributions):
    source, wheel, of_tree = distributions
    inside = contents(wheel)
    assert inside == contents(of_tree), "the source distribution lacks what the wheel needs"
    tree = {p for folder in ("binomctl", "configs", "plugins") for p in (ROOT / folder).rglob("*")}
    for path in sorted(p for p in tree if p.is_file() and "__pycache__" not in p.parts):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("plugins/examples/"):
            continue
        name = name.removeprefix("plugins/")
        name = f"binomctl/{name}" if name.startswith("configs/") else name
        assert inside.pop(name) == path.read_bytes(), name
    assert not inside, "the wheel has what the tree has not"
    with tarfile.open(source) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "configs/binom2026.yaml"} <= names
    assert not [n for n in names if n.startswith(("runs/", "sweeps/", ".venv"))]


@pytest.mark.slow
def test_the_commands_work_from_an_empty_folder(run):
    printed = run("python", "-c", "import binomctl; print('binomctl', binomctl.__version__)")
    assert run("binomctl", "--version") == printed
    assert json.loads(run("binomctl", "bounds", "--json"))["schema"].startswith("binomctl/bounds/")
    quick = ["--steps", 2, "--set", "training.validation_tasks=2", "--json"]
    assert json.loads(run("binomctl", "train", "--dataset", "sinusoid", *quick))["steps"] == 2
    assert json.loads(run("binomctl", "train", "--config", "sinusoid", *quick))["steps"] == 2
    listed = json.loads(run("binomctl", "plugins", "--json"))["plugins"]
    assert not [p for p in listed if p["failure"]]
    run("binomctl", "init", "--dataset", "sinusoid", "--budget", 2)
    assert json.loads(run("binomctl", "train", "--config", "binomctl.yaml", *quick))["steps"] == 2
    run("binomctl", "plugins", "new", "estimator", "my-own")
    (run.folder / "binomctl-my-own" / "binomctl_my_own.py").rename(run.folder / "my_own.py")
    own = ["--dataset", "sinusoid", "--estimator", "my_own:MyOwn"]
    assert json.loads(run("binomctl", "train", *own, *quick))["steps"] == 2


QUIET = """
import sys
sys.argv = ["binomctl", "train", "--dataset", "sinusoid", "--steps", "2", "--json", "--set",
            "training.validation_tasks=2"]
from binomctl.cli import main
main()
import binomctl
binomctl.meta_gradient
loaded = [m for m in ("matplotlib", "learn2learn", "sklearn", "PIL.Image") if m in sys.modules]
assert not loaded, loaded
"""


@pytest.mark.long
def test_training_imports_no_pictures_and_nothing_optional(run):
    run("python", "-c", "import importlib.util as i; assert not i.find_spec('learn2learn')")
    run("python", "-c", QUIET)


@pytest.mark.long
def test_the_kernels_compile_from_the_wheel(run):
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("no C compiler on this machine")
    code = "import torch\nfrom binomctl.curvature.analytic import native\n"
    run("python", "-c", f"{code}assert native.available(torch.zeros(1)), native.FOLDER")
