"""`binomctl plugins new` writes distributions that work as they are written."""

from __future__ import annotations

import ast
import importlib
import json
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from command import binomctl, here

from binomctl import testing
from binomctl.errors import BinomctlError
from binomctl.settings import registry
from binomctl.starters import KINDS

NAMES = {kind: f"my-{kind}" for kind in KINDS}
QUICK = ["--steps", 2, "--meta-batch", 2, "--set", "training.validation_tasks=2", "--json"]
USED = {
    "estimator": ["--dataset", "sinusoid", "--estimator"],
    "dataset": ["--dataset"],
    "rule": ["--dataset", "sinusoid", "--rule"],
    "update": ["--dataset", "sinusoid", "--set"],
    "problem": ["--problem"],
    "tracker": ["--dataset", "sinusoid", "--tracker"],
}


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [n for n in sys.modules if n.startswith("binomctl_my_")]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
def test_the_written_test_passes_and_the_plugin_trains(kind, tmp_path, monkeypatch):
    said = json.loads(binomctl("plugins", "new", kind, NAMES[kind], "--json")[0])
    assert kind in KINDS
    folder = tmp_path / f"binomctl-my-{kind}"
    assert said["folder"] == folder.name
    module = f"binomctl_my_{kind}"
    inside = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert inside == {
        f"{module}.py", f"tests/test_{module}.py", "pyproject.toml", "README.md",
    }  # fmt: skip
    _run_its_test(folder)
    monkeypatch.chdir(folder)
    target = f"{module}:My{kind.capitalize()}"
    point = tomllib.loads(Path("pyproject.toml").read_text())["project"]["entry-points"]
    assert point == {f"binomctl.{kind}s": {NAMES[kind]: target}}
    used = [*USED[kind][:-1], USED[kind][-1]]
    used.append(f"adaptation.optimizer={target}" if kind == "update" else target)
    assert json.loads(binomctl("train", *used, *QUICK)[0])["steps"] == 2
    shown = Path("README.md").read_text()
    assert target in shown
    assert "$" not in shown
    assert {"dataset": "The data set", "update": "The inner optimiser"}.get(kind, kind) in shown


BREAKS = {
    "estimator": ("return w[:, 0]", "return w[:, 0] * torch.rand(1)"),
    "dataset": ("generator(self.seed", "generator(torch.randint(2**30, ()).item()"),
    "rule": ("return m * v", "return 2 * m * v"),
    "update": ("s[0] - alpha * v, v]", "s[0] - alpha * v * torch.rand(1), v]"),
    "problem": ("].exp() for name", "].exp().detach() for name"),
    "tracker": ("return _Table(folder /", "return _Table(run /"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_that_breaks_its_promise_fails_its_test(kind, tmp_path):
    """A row, an episode, a step that is another at each call, M^T that is not M's transpose, an
    outer variable that no loss depends on, a file beside the tracker's own folder."""
    binomctl("plugins", "new", kind, NAMES[kind])
    source = tmp_path / f"binomctl-my-{kind}" / f"binomctl_my_{kind}.py"
    before, after = BREAKS[kind]
    head, found, tail = source.read_text().rpartition(before)
    assert found
    source.write_text(f"{head}{after}{tail}\nimport torch\n")
    with pytest.raises((AssertionError, BinomctlError)):
        _run_its_test(source.parent)


def _run_its_test(folder):
    """The written test, in this process: another one takes seconds to import torch."""
    sys.path.insert(0, str(folder))
    (test,) = (folder / "tests").glob("test_*.py")
    runpy.run_path(str(test))["test_it_keeps_its_contract"]()


def test_pytest_finds_the_written_test(tmp_path):
    binomctl("plugins", "new", "estimator", "my-estimator", "--out", "there")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error"]
    done = subprocess.run(command, cwd=tmp_path / "there", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_is_short_explained_and_named_by_the_name(kind, tmp_path):
    binomctl("plugins", "new", kind, "long-name-2", "--out", "there")
    source = (tmp_path / "there" / "binomctl_long_name_2.py").read_text()
    assert 30 <= len(source.splitlines()) <= 60
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    (cls,) = [node for node in classes if not node.name.startswith("_")]
    assert cls.name == "LongName2"
    assert max(map(len, source.splitlines())) <= 100
    assert ast.get_docstring(cls)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["estimater", "mine"], "unknown kind of plugin 'estimater'. Did you mean 'estimator'?"),
        (["engine", "mine"], "unknown kind of plugin 'engine'"),
        (["rule", "My_Rule"], "'My_Rule' is no name"),
        (["rule", "../up"], "'../up' is no name"),
        (["rule", "anil"], "there is a rule 'anil' already"),
        (["estimator", "mine", "--out", "full"], "full is there already"),
        (["estimator", "mine", "--out", "full/kept"], "full/kept is there already"),
    ],
)
def test_what_cannot_be_written_is_refused(args, said, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("kept")
    done = here("plugins", "new", *args)
    assert done.returncode == 2
    assert said in done.stderr
    assert [p.name for p in tmp_path.rglob("*")] == ["full", "kept"]


def test_every_kind_of_plugin_can_be_begun_and_checked():
    assert set(KINDS) == set(registry.KINDS)
    assert {f"check_{kind}" for kind in KINDS} == set(testing.__all__)
    said = here("plugins", "new", "tracker", "my-tracker").stderr
    assert "binomctl train --tracker binomctl_my_tracker:MyTracker" in said


def test_a_tracker_that_goes_on_has_each_line_once(tmp_path):
    binomctl("plugins", "new", "tracker", "my-tracker", "--out", ".")
    table = runpy.run_path("binomctl_my_tracker.py")["MyTracker"]()
    for begun, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        tracking = table.start(tmp_path, tmp_path, {}, begun)
        for step in steps:
            tracking.log(step, {"loss": step / 3})
    rows = (tmp_path / "my-tracker.csv").read_text().splitlines()
    assert rows == ["1,loss,0.333333", "2,loss,0.666667", "3,loss,1", "4,loss,1.33333"]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"outer_variables": lambda self, parameters: {}}, "there are no outer variables"),
        ({"outer_variables": lambda self, parameters: {"w": torch.rand(1)}}, "another one twice"),
        ({"outer_variables": lambda self, parameters: {"w": torch.ones(1).long()}}, "has dtype"),
        ({"recommended": {"rule": {"name": "gd", "fixed": ["outer_*"]}}}, "training.learned"),
    ],
)
def test_a_problem_is_told_which_promise_it_breaks(change, broken, tmp_path):
    binomctl("plugins", "new", "problem", "my-problem", "--out", ".")
    sys.path.insert(0, str(tmp_path))
    whole = importlib.import_module("binomctl_my_problem").MyProblem
    with pytest.raises(AssertionError, match=broken):
        testing.check_problem(type("Broken", (whole,), change))


def test_plugins_alone_lists_them():
    alone, by_name = here("plugins", "--json"), here("plugins", "list", "--json")
    assert alone.stdout == by_name.stdout
    assert {p["name"] for p in json.loads(alone.stdout)["plugins"]} >= set(registry.names("rule"))
    assert here("plugins").stdout == here("plugins", "list").stdout
    assert "new" in here("plugins", "--help").stdout
    assert here("plugins", "--jsn").returncode == 2


@pytest.mark.parametrize(
    ("word", "kind", "count"),
    [("rules", "rule", 10), ("rule", "rule", 10), ("binom", "estimator", 1)],
)
def test_a_kind_or_a_name_is_listed_alone(word, kind, count):
    found = json.loads(here("plugins", "list", word, "--json").stdout)["plugins"]
    assert {p["kind"] for p in found} == {kind}
    assert len(found) >= count
    assert "alpha_scaling" in here("plugins", "list", "binom").stdout
    wrong = here("plugins", "list", "estimatrs")
    assert wrong.returncode == 2
    assert "Did you mean 'estimators'?" in wrong.stderr
