"""`binomctl plugins new` writes distributions that work as they are written."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command import binomctl, here

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


BREAKS = {
    "estimator": ("return w[:, 0]", "return w[:, 0] * torch.rand(1)"),
    "dataset": ("generator(self.seed", "generator(torch.randint(2**30, ()).item()"),
    "rule": ("return m * v", "return 2 * m * v"),
    "update": ("s[0] - alpha * v, v]", "s[0] - alpha * v * torch.rand(1), v]"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_that_breaks_its_promise_fails_its_test(kind, tmp_path):
    """A row, an episode, a step that is another at each call, and M^T that is not M's transpose."""
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
    assert 30 <= len(source.splitlines()) <= 55
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    (cls,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert cls.name == "LongName2"
    assert ast.get_docstring(cls)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["estimater", "mine"], "unknown kind of plugin 'estimater'. Did you mean 'estimator'?"),
        (["tracker", "mine"], "unknown kind of plugin 'tracker'"),
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


def test_plugins_alone_lists_them():
    alone, by_name = here("plugins", "--json"), here("plugins", "list", "--json")
    assert alone.stdout == by_name.stdout
    assert {p["name"] for p in json.loads(alone.stdout)["plugins"]} >= set(registry.names("rule"))
    assert here("plugins").stdout == here("plugins", "list").stdout
    assert "new" in here("plugins", "--help").stdout
    assert here("plugins", "--jsn").returncode == 2
