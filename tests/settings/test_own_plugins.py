"""Plugins of one's own by dotted path: imported when their user says so, and by nobody else."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from command import binomctl, here

import binomctl as package
from binomctl.errors import ConfigError
from binomctl.options import has_option
from binomctl.problem.build import resolved
from binomctl.runs import RunDirectory
from binomctl.settings import registry
from binomctl.settings.layers import load_config
from binomctl.settings.own import own, variant_name

SOURCE = '''
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch.nn import functional as F

from binomctl.episodes import MSE, Episode, check_split, generator
from binomctl.options import option

Path("{mark}").touch()

@dataclass(frozen=True)
class Half:
    """Half of g."""
    factor: float = option(0.5, "of g")
    recommended: ClassVar[dict] = {{"training": {{"meta_batch": 3}}}}

    def steps(self, K):
        return range(0)

    def meta_gradient(self, adapted):
        return self.factor * adapted.g

@dataclass(frozen=True)
class Lines:
    """Straight lines."""
    seed: int = option(0, "seed")
    queries: int = option(4, "query points")
    in_shape, out_dim, kind, scored_by = (1,), 1, "regression", MSE
    splits = ("train", "validation", "test")
    recommended: ClassVar[dict] = {{"model": {{"name": "mlp", "width": 4, "depth": 1}}}}

    def episode(self, split, index):
        check_split(split, self.splits)
        random = generator(self.seed, split, index)
        x = torch.from_numpy(random.uniform(-1, 1, (4 + self.queries, 1))).float()
        y = float(random.normal()) * x
        return Episode(x[:4], y[:4], x[4:], y[4:])

    loss = staticmethod(F.mse_loss)
    metric = staticmethod(F.mse_loss)

@dataclass(frozen=True)
class Scaled:
    """One fixed factor."""
    by: float = option(0.5, "of gamma")
    plain: ClassVar[bool] = False

    def initial(self, layout):
        return torch.empty(0)

    def apply(self, m, v, layout):
        return self.by * v

    apply_transpose = apply

@dataclass(frozen=True)
class Twice:
    """phi - 2 alpha u."""
    slots: ClassVar[int] = 0
    plain: ClassVar[bool] = False
    shifts: ClassVar[str] = ""

    def step(self, k, s, u, alpha):
        return s - 2 * alpha * u

@dataclass(frozen=True)
class Told:
    """Keeps what it is told."""
    def start(self, run, folder, config, step):
        return self

    def log(self, step, values):
        with open("told", "a") as file:
            file.write(f"{{step}}\\n")

    def finish(self, report):
        pass

@dataclass(frozen=True)
class Nothing:
    """Nothing."""

@dataclass(frozen=True)
class Blind:
    """No direction."""
    plain: ClassVar[bool] = False

    def initial(self, layout):
        return torch.empty(0)

class Bare:
    pass

value = 3
'''


@pytest.fixture
def mine(tmp_path, project):
    """A module of one's own in the working folder, whose import leaves a mark."""
    mark = tmp_path / "imported"
    (project / "own_plugins.py").write_text(SOURCE.format(mark=mark))
    yield mark
    sys.modules.pop("own_plugins", None)


def forget(mark):
    sys.modules.pop("own_plugins", None)
    mark.unlink(missing_ok=True)


ALL = [
    "--estimator", "own_plugins:Half", "--dataset", "own_plugins:Lines", "--rule",
    "own_plugins:Scaled", "--set", "adaptation.optimizer=own_plugins:Twice", "--tracker",
    "own_plugins:Told",
]  # fmt: skip
QUICK = ["--steps", 2, "--set", "training.validation_tasks=2", "--json"]


def train(*args, code=0):
    return binomctl("train", *args, *QUICK, code=code)


def test_every_kind_trains_without_an_entry_point(mine):
    report = json.loads(train(*ALL, "--set", "estimator.factor=0.25", "--out", "run")[0])
    assert report["estimator"] == {"name": "own_plugins:Half", "factor": 0.25}
    config = RunDirectory.open(Path("run")).config()
    assert config.training.meta_batch == 3, "what its estimator recommends"
    assert config.model.options["width"] == 4, "what its data set recommends"
    assert {name for _, name in own(config.model_dump())} == set(ALL) & {
        "own_plugins:Half", "own_plugins:Lines", "own_plugins:Scaled", "own_plugins:Told",
    } | {"own_plugins:Twice"}  # fmt: skip
    assert Path("told").read_text().split()[-1] == "2"


def test_a_file_names_them_and_a_run_is_named_after_them(mine):
    Path("own.yaml").write_text("estimator: {name: 'own_plugins:Half', factor: 0.3}\n")
    train("--config", "own.yaml", "--dataset", "sinusoid")
    assert Path("runs/sinusoid-own_plugins-Half-seed0").is_dir()


def test_stages_members_and_lists_of_estimators_name_them(mine):
    mix = "dataset.of=[{name: sinusoid}, {name: 'own_plugins:Lines'}]"
    stages = "training.order_annealing=[{until: 1, estimator: 'own_plugins:Half'}]"
    named = load_config(assignments=["dataset.name=mix", mix, stages])[0].model_dump()
    assert list(own(named)) == [
        ("estimator", "own_plugins:Half"), ("dataset", "own_plugins:Lines"),
    ]  # fmt: skip
    done = json.loads(
        binomctl("error-analysis", "--estimators", "fomaml,own_plugins:Half:factor=0.75",
                 "--batches", 2, "--json")[0]
    )  # fmt: skip
    assert "own_plugins:Half" in json.dumps(done)
    assert variant_name("own_plugins:Half:factor=0.75") == ("own_plugins:Half", ["factor=0.75"])
    assert variant_name("imaml:lam=2") == ("imaml", ["lam=2"])


def test_other_doors_take_them(mine):
    keys = json.loads(binomctl("config", "keys", "--rule", "own_plugins:Scaled", "--json")[0])
    assert "rule.by" in {key["name"] for key in keys["keys"]}
    import torch
    from torch import nn
    from torch.nn import functional as F

    x, y = torch.randn(2, 1, 3, 2), torch.randn(2, 1, 3, 1)
    got = package.meta_gradient(
        nn.Linear(2, 1), F.mse_loss, (x[0], y[0], x[1], y[1]), estimator="own_plugins:Half",
        rule="own_plugins:Scaled", optimizer="own_plugins:Twice", K=2, alpha=0.1,
    )  # fmt: skip
    assert set(got) == {"weight", "bias"}
    assert has_option(registry.load("estimator", "own_plugins:Half"), "factor")


def test_registered_names_win_over_a_module_of_that_name(mine):
    Path("learn2learn.py").write_text("raise SystemExit('imported')\n")
    assert registry.split_name("dataset", "learn2learn:fc100")["name"] == "learn2learn"
    assert not registry.is_own("dataset", "learn2learn:fc100")


@pytest.mark.parametrize(
    ("flag", "target", "said"),
    [
        ("--estimator", "absent_module:Half", "cannot import 'absent_module'"),
        ("--estimator", "own_plugins:Third", "module 'own_plugins' has no 'Third'"),
        ("--estimator", "own_plugins:value", "is a int, not a class: it was not called"),
        ("--estimator", "own_plugins:Bare", "is not a dataclass"),
        ("--estimator", "own_plugins:Nothing", "it lacks meta_gradient, steps"),
        ("--dataset", "own_plugins:Half", "it lacks episode, in_shape, kind"),
        ("--problem", "own_plugins:Lines", "it lacks outer_variables"),
        ("--rule", "own_plugins:Blind", "it lacks apply, apply_transpose or direction or noise"),
        ("--tracker", "own_plugins:Half", "it lacks start"),
        ("--estimator", "os:system", "os is a part of Python, which has no estimators"),
        ("--estimator", "own_plugins.absent:Half", "cannot import 'own_plugins.absent'"),
        ("--dataset", "omniglott:Set", "did you mean 'omniglot'"),
        ("--set", "adaptation.optimizer=own_plugins:Half", "it lacks plain, shifts, slots, step"),
    ],
)
def test_what_is_no_plugin_is_refused_by_name(mine, flag, target, said):
    done = here("train", flag, target, *QUICK)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.replace("\n", " ")
    assert target.rpartition("=")[2] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_fails_is_told(mine):
    for name, text in (("own_broken", "1 / 0"), ("own_leaving", "raise SystemExit('gone')")):
        Path(f"{name}.py").write_text(text)
        said = train("--estimator", f"{name}:Half", code=2)[1]
        why = "ZeroDivisionError: division" if name == "own_broken" else "SystemExit: gone"
        assert f"'{name}' fails when imported: {why}" in said


@pytest.mark.promise(22, fault="a run folder that somebody sent names a plugin")
@pytest.mark.parametrize(
    "given", [ALL[:2], [*ALL[2:4], "--estimator", "fomaml"], ["--dataset", "sinusoid", *ALL[4:6]],
              ["--dataset", "sinusoid", *ALL[6:8]], ["--dataset", "sinusoid", *ALL[8:]]],
    ids=["estimator", "dataset", "rule", "update", "tracker"],
)  # fmt: skip
def test_a_run_from_elsewhere_imports_nothing(mine, monkeypatch, tmp_path, given):
    data = [] if "--dataset" in given else ["--dataset", "sinusoid"]
    train(*data, *given, "--out", "run")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    forget(mine)
    commands = [
        ["eval", "run", "--tasks", 2], ["train", "--resume", "run"], ["verify", "run"],
        ["error-analysis", "--checkpoint", "run"], ["export", "run", "-o", "out"],
        ["runs", "ls"], ["runs", "show", "run"], ["config", "show", "run"],
        ["config", "diff", "run", "run"], ["report", "run", "--force"],
    ]  # fmt: skip
    for command in commands:
        done = here(*command)
        assert "Traceback" not in done.stderr, command
        assert not mine.exists(), command
        assert "own_plugins" not in sys.modules, command
        if command[0] in ("eval", "verify", "error-analysis", "export"):
            assert done.returncode == 4, (command, done.stderr)
            assert "asks for the import of 'own_plugins:" in done.stderr
            assert "--trust" in done.stderr
        if command[0] == "config":
            assert done.returncode == 0, (command, done.stderr)
    assert here("eval", "run", "--tasks", 2, "--trust").returncode == 0
    assert mine.exists()


def test_one_s_own_run_goes_on_from_any_folder(mine, monkeypatch, tmp_path):
    train("--dataset", "sinusoid", *ALL[:2], "--out", "run")
    forget(mine)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("run", elsewhere / "run")
    (elsewhere / "own_plugins.py").write_text("raise SystemExit('of the working folder')")
    monkeypatch.chdir(elsewhere)
    assert here("eval", "run", "--tasks", 2).returncode == 0
    assert mine.exists()
    forget(mine)
    changed = ["--steps", 3, "--set", "estimator.factor=0.75"]
    changed += ["--allow-change", "estimator.factor", "--allow-change", "training.steps"]
    assert here("train", "--resume", "run", *changed).returncode == 0
    forget(mine)
    assert here("eval", "run", "--tasks", 2).returncode == 0, "its note follows what was changed"
    config = RunDirectory.open(Path("run")).config()
    assert config.estimator.options["factor"] == 0.75
    assert resolved(config).model_dump(mode="json") == config.model_dump(mode="json")


def test_nothing_is_imported_for_a_name_that_was_not_asked_for(mine):
    with pytest.raises(ConfigError, match="was not imported"):
        registry.load("estimator", "own_plugins:Half")
    assert not mine.exists()
