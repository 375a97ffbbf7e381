"""Outside plugins as Python sees them: distributions with entry points on the path."""

from __future__ import annotations

import json

import pytest
from command import in_a_process

from binomctl.errors import ConfigError
from binomctl.settings import registry

GOOD = '''
"""An outside estimator."""
from dataclasses import dataclass
from binomctl.options import option

@dataclass(frozen=True)
class Half:
    """Half of g."""
    factor: float = option(0.5, "of g")

    def steps(self, K):
        return range(0)

    def meta_gradient(self, adapted):
        return self.factor * adapted.g
'''


@pytest.fixture
def site(tmp_path):
    """A folder like site-packages; install(distribution, name, value, source) adds to it."""
    folder = tmp_path / "site"

    def install(distribution, name, value, source, group="binomctl.estimators"):
        info = folder / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        (folder / f"{value.partition(':')[0]}.py").write_text(source)

    install.folder = folder
    return install


def binomctl(site, *args):
    return in_a_process(*args, PYTHONPATH=str(site.folder), COLUMNS="120")


TRAIN = ["train", "--dataset", "sinusoid", "--steps", "2", "--meta-batch", "2"]
TRAIN += ["--set", "training.validation_tasks=2"]


def test_an_outside_estimator_is_listed_and_trains(site):
    site("outside", "half", "outside_half:Half", GOOD)
    listed = binomctl(site, "plugins")
    assert listed.returncode == 0, listed.stderr
    assert "outside 1.0" in listed.stdout
    assert "Half of g." in listed.stdout
    done = binomctl(site, *TRAIN, "--estimator", "half", "--set", "estimator.factor=0.25", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2


@pytest.mark.promise(17, fault="a plugin that raises when it is imported")
def test_a_plugin_that_raises_on_import_disables_itself_alone(site):
    site("broken", "boom", "broken_plugin:Boom", "raise RuntimeError('no licence found')")
    listed = binomctl(site, "plugins")
    assert listed.returncode == 0
    assert "failed to load: RuntimeError: no licence found" in listed.stdout
    assert "binom" in listed.stdout
    assert binomctl(site, *TRAIN).returncode == 0
    asked = binomctl(site, *TRAIN, "--estimator", "boom")
    assert asked.returncode == 2
    assert "could not be loaded: RuntimeError: no licence found" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_even_exiting_or_missing_plugins_disable_themselves_alone(site):
    site("exits", "exits", "exits_plugin:X", "import sys\nsys.exit('gone')")
    site("absent", "absent", "absent_plugin:Missing", "")
    listed = binomctl(site, "plugins", "--json")
    assert listed.returncode == 0, listed.stderr
    failures = {p["name"]: p["failure"] for p in json.loads(listed.stdout)["plugins"]}
    assert "SystemExit: gone" in failures["exits"]
    assert "Missing" in failures["absent"]
    assert failures["binom"] == ""


def test_a_name_claimed_twice_is_refused_with_both_owners(site):
    site("first", "half", "first_half:Half", GOOD)
    site("second", "half", "second_half:Half", GOOD)
    asked = binomctl(site, *TRAIN, "--estimator", "half")
    assert asked.returncode == 2
    assert "registered more than once" in asked.stderr
    for owner in ("first 1.0", "second 1.0"):
        assert owner in asked.stderr
    listed = binomctl(site, "plugins")
    assert listed.stdout.count("name claimed twice") == 2


def test_a_built_in_name_cannot_be_taken_over(site):
    site("grabs", "maml", "grabs_maml:Half", GOOD)
    asked = binomctl(site, *TRAIN, "--estimator", "maml")
    assert asked.returncode == 2
    assert "grabs 1.0" in asked.stderr
    assert binomctl(site, *TRAIN, "--estimator", "binom").returncode == 0


@pytest.mark.parametrize(
    ("kind", "name", "options", "said"),
    [
        (
            "estimator",
            "binom",
            {"L": "two"},
            "option 'L' of BinomMAML is 'two': expected a whole number",
        ),
        ("estimator", "imaml", {"lam": True}, "option 'lam' of IMAML is True"),
        ("estimator", "binom", {"LL": 2}, "unknown option 'LL' of BinomMAML. Did you mean 'L'"),
        ("rule", "rates", {"steps": 2.5}, "option 'steps' of Rates is 2.5"),
        ("update", "adam", {"beta1": float("nan")}, "option 'beta1' of Adam is nan"),
        ("dataset", "sinusoid", {"shots": "5"}, "option 'shots' of Sinusoid is '5'"),
    ],
)
def test_options_are_checked_where_a_plugin_is_constructed(kind, name, options, said):
    with pytest.raises(ConfigError) as caught:
        registry.load(kind, name)(**options)
    assert said in str(caught.value)


def test_options_by_position_and_lists_are_taken():
    assert registry.load("estimator", "binom")(3).L == 3
    assert registry.load("rule", "gd")(fixed=["a"]).fixed == ("a",)
    with pytest.raises(TypeError):
        registry.load("estimator", "fomaml")(1)


def test_entry_points_are_read_once():
    registry.names("estimator")
    before = registry._found.cache_info().hits
    for _ in range(10):
        registry.names("estimator")
    assert registry._found.cache_info().hits == before + 10
