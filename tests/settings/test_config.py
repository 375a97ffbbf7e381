"""Layers, YAML and its faults; every file in configs/ loads and builds."""

from __future__ import annotations

from pathlib import Path

import layouts
import pytest
from sampled import sampled

from binomctl.cli.datasets import ensure_prepared
from binomctl.errors import ConfigError
from binomctl.problem.build import build_problem, resolved
from binomctl.problem.datasets import build_dataset
from binomctl.settings import registry
from binomctl.settings.layers import load_config
from binomctl.settings.orders import orders

CONFIG_DIR = Path(__file__).parents[2] / "configs"
# Grids are no configurations: tests/sweeps reads them.
CONFIGS = sorted(p for p in CONFIG_DIR.glob("*.yaml") if "\nmethods:" not in p.read_text())
CONFIGS += sorted((CONFIG_DIR / "methods").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_config_builds(path):
    config, _ = load_config(path)
    # Measuring which way of convolution is fastest takes seconds a size.
    quick, _ = load_config(path, {"engine.convolution": "blocks"})
    build_problem(quick if config.engine.convolution == "auto" else config)
    again = resolved(config)
    assert resolved(again) == again


@pytest.fixture(scope="module")
def paper_data(tmp_path_factory):
    """Small miniImageNet and tieredImageNet files, in one folder as learn2learn keeps them."""
    root = tmp_path_factory.mktemp("data")
    layouts.mini_learn2learn(root)
    layouts.tiered_png(root)
    for name in ("mini-imagenet", "tiered-imagenet"):
        ensure_prepared(load_config(overrides={"dataset.name": name, "dataset.root": str(root)})[0])
    return str(root)


SETTINGS = ["mini-1shot", "mini-5shot", "tiered-1shot", "tiered-5shot"]
METHODS = ["fomaml", "reptile", "imaml", "trunc", "binom", "maml", "hybrid"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", sampled(SETTINGS, 4))
def test_the_papers_tables_are_a_protocol_a_setting_and_a_method(paper_data, setting, method):
    files = [CONFIG_DIR / "binom2026.yaml"]
    files += [CONFIG_DIR / "table1" / f"{name}.yaml" for name in (setting, method)]
    order = {"estimator.L": 4} if method in ("imaml", "trunc", "binom") else {}
    blocks = {"engine.convolution": "blocks"}
    config, _ = load_config(files, {"dataset.root": paper_data, **order, **blocks})
    shots = int(setting[-5])
    assert config.dataset.name == f"{setting.split('-')[0]}-imagenet"
    assert config.pixels == ("raw" if setting.startswith("mini") else "unit")
    assert (config.adaptation.K, config.adaptation.alpha) == (5, 0.01)
    assert (config.training.steps, config.training.meta_batch) == (20000, 4)
    assert config.training.queries == 15
    assert config.evaluation.queries == shots
    assert build_dataset(config).shots == shots
    # A network of this size takes seconds to check: every method once, every setting once.
    if setting != "mini-1shot" and method != "fomaml":
        estimator = registry.create("estimator", config.estimator.name, config.estimator.options)
        estimator.steps(config.adaptation.K)
        return
    problem = build_problem(config)
    batch = problem.training_batch(range(1))
    assert batch.x_trn.shape == (1, 5 * shots, 3, 84, 84)
    assert batch.x_val.shape == (1, 75, 3, 84, 84)
    assert batch.x_val.max() > 1 if config.pixels == "raw" else batch.x_val.max() <= 1
    assert type(problem.estimator).__module__.startswith("binomctl_estimators.")


def test_every_file_of_table_1_is_a_setting_or_a_method():
    found = {p.stem for p in (CONFIG_DIR / "table1").glob("*.yaml")}
    found -= {"glyphs-5way", "glyphs-20way"}  # of the table on letters
    assert found == {*SETTINGS, *METHODS}


def test_command_line_over_file_over_data_set_over_defaults(tmp_path):
    assert load_config()[0].adaptation.alpha == 0.1  # glyphs recommends it
    file = tmp_path / "c.yaml"
    file.write_text("adaptation: {alpha: 0.2}\nestimator: {name: binom, L: 3}\n")
    assert load_config(file)[0].adaptation.alpha == 0.2
    config, _ = load_config(file, {"adaptation.alpha": 0.3})
    assert config.adaptation.alpha == 0.3
    assert config.estimator.options == {"L": 3}
    config, _ = load_config(file, {"estimator.name": "maml"})
    assert config.estimator.options == {}  # L was binom's


@pytest.mark.promise(15, fault="tags, duplicate and unknown keys, NaN, a bool for a number")
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("evaluation: {interval: z}\n", "evaluation.interval"),
        ("seed: 0\nseed: 1\n", ":2: duplicate key 'seed', first on line 1"),
        ("training: {step: 3}\n", "Did you mean 'training.steps'"),
        ("\nsteps: 3\n", ":2: unknown key 'steps'"),
        ("training:\n  steps: true\n", ":2: training.steps is True"),
        ("adaptation: {alpha: .nan}\n", "finite"),
        ("adaptation: {alpha: .inf}\n", "finite"),
        ("seed: !!python/object/apply:os.system [true]\n", "not allowed"),
        ("seed: [1\n", "c.yaml:2"),
        ("- a\n", "expected keys and values"),
        ("estimator: {name: binom, L: 1.5}\n", None),
    ],
)
def test_faulty_yaml_is_refused_with_its_place(tmp_path, text, word):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=word) as caught:
        build_problem(load_config(file)[0])
    assert caught.value.exit_code == 2


def test_exponents_are_floats(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("training: {meta_lr: 1e-2}\nadaptation: {alpha: 2E-1}\n")
    config, _ = load_config(file)
    assert (config.training.meta_lr, config.adaptation.alpha) == (0.01, 0.2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "binom2026",
            {
                "training": (20000, 4, 1e-3, "adam", "sum", "mean", 15, None, 1000),
                "evaluation": (600, 10, 1, "best"),
                "adaptation": (5, 0.01, "mean", "batch"),
                "estimator": {"L": 2, "alpha_scaling": "paper"},
            },
        ),
        (
            "finn2017",
            {
                "training": (60000, 4, 1e-3, "adam", "mean", "sum_per_shot", 15, 10, 1000),
                "evaluation": (600, 10, 1, "last"),
                "adaptation": (5, 0.01, "sum_per_shot", "batch"),
                "estimator": {},
            },
        ),
        (
            "learn2learn",
            {
                "training": (60000, 32, 3e-3, "adam", "mean", "mean", 5, None, 1000),
                "evaluation": (32, 1, 5, "last"),
                "adaptation": (1, 0.5, "mean", "batch"),
                "estimator": {},
            },
        ),
        (
            "reptile2018",
            {
                "training": (100000, 5, 1.0, "sgd", "mean", "mean", 1, None, 1000),
                "evaluation": (10000, 50, 1, "last"),
                "adaptation": (8, 1e-3, "sum", "batch"),
                "estimator": {},
            },
        ),
        (
            "imaml2019",
            {
                "training": (20000, 32, 1e-3, "adam", "mean", "mean", 1, None, 1000),
                "evaluation": (600, 16, 1, "last"),
                "adaptation": (16, 0.1, "mean", "batch"),
                "estimator": {"L": 5, "lam": 2.0},
            },
        ),
    ],
)
def test_the_named_protocols_pin_their_sources_figures(name, expected):
    config, _ = load_config(CONFIG_DIR / f"{name}.yaml")
    t, e, a = config.training, config.evaluation, config.adaptation
    assert expected["training"] == (
        t.steps, t.meta_batch, t.meta_lr, t.optimizer, t.reduction, t.loss_reduction, t.queries,
        t.clip_value, t.validate_every,
    )  # fmt: skip
    assert expected["evaluation"] == (e.tasks, e.steps, e.queries, e.checkpoint)
    assert expected["adaptation"] == (a.K, a.alpha, a.loss_reduction, a.statistics)
    assert expected["estimator"] == config.estimator.options
    raw = (CONFIG_DIR / f"{name}.yaml").read_text()
    for pinned in ("pixels:", "init:", "optimizer:", "statistics:", "interval:", "checkpoint:"):
        assert pinned in raw, f"{name} leaves {pinned} to the defaults"


def test_a_protocol_goes_with_any_data_set():
    config, _ = load_config(CONFIG_DIR / "finn2017.yaml", {"dataset.name": "glyphs"})
    assert config.dataset.options == {"ways": 5, "shots": 1}


def test_the_inner_optimiser_is_a_choice_with_its_options(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("adaptation:\n  optimizer: {name: adam, beta1: 0.5}\n")
    config, _ = load_config(file)
    assert config.adaptation.optimizer.options == {"beta1": 0.5}
    other, _ = load_config(file, assignments=["adaptation.optimizer=sgd"])
    assert (other.adaptation.optimizer.name, other.adaptation.optimizer.options) == ("sgd", {})
    more, _ = load_config(file, assignments=["adaptation.optimizer.beta2=0.9"])
    assert more.adaptation.optimizer.options == {"beta1": 0.5, "beta2": 0.9}
    wrong, places = load_config(assignments=["adaptation.optimizer=adma"])
    with pytest.raises(ConfigError) as caught:
        build_problem(wrong)
    placed = str(places.locate(caught.value))
    assert placed.startswith("--set adaptation.optimizer=adma: unknown inner optimiser 'adma'")


@pytest.mark.parametrize(
    ("name", "options"), [("sgd", {}), ("adam", {"beta1": 0.0, "beta2": 0.999})]
)
def test_runs_of_before_keep_their_meaning(tmp_path, name, options):
    file = tmp_path / "c.yaml"
    file.write_text(f"adaptation: {{optimizer: {name}, beta1: 0.0, beta2: 0.999}}\n")
    chosen = load_config(file)[0].adaptation.optimizer
    assert (chosen.name, chosen.options) == (name, options)


@pytest.mark.promise(25, fault="sections that are none, keys with holes, numbers of 65 bits")
@pytest.mark.parametrize(
    ("said", "worded"),
    [
        ("adaptation.optimizer.beta1.x=1", None),  # an option of a choice: its plugin's to refuse
        ("training.steps.deep=1", "training.steps is"),
        ("analysis.estimators=[1]", "analysis.estimators.0 is 1"),
        ("no.such.section=1", "unknown key 'no'"),
        ("a..b=1", "expected key.path=value"),
        (".a=1", "expected key.path=value"),
        ("a.=1", "expected key.path=value"),
        (".".join("a" * 40) + "=1", "nested deeper than"),
        ("seed=9223372036854775808", "more than 64 bits"),
        ("training.steps=" + "x" * 5000, "training.steps is 'xxx"),
    ],
)
def test_an_assignment_is_refused_by_name_and_at_bounded_length(said, worded):
    if worded is None:
        assert load_config(assignments=[said])
        return
    with pytest.raises(ConfigError) as refused:
        load_config(assignments=[said])
    assert worded in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.promise(25, fault="options of numbers that no integer of torch's holds")
@pytest.mark.parametrize("key", ["seed", "training.steps", "adaptation.K"])
def test_an_option_of_more_than_64_bits_is_refused(key):
    with pytest.raises(ConfigError, match="more than 64 bits"):
        load_config(overrides={key: 10**30})


@pytest.mark.parametrize("optimizer", ["5", "[adam]", "null", "{name: 5}", "{name: [1]}"])
def test_adam_s_old_options_beside_no_name_are_refused(tmp_path, optimizer):
    file = tmp_path / "old.yaml"
    file.write_text(f"adaptation: {{beta1: 0.9, optimizer: {optimizer}}}\n")
    with pytest.raises(ConfigError, match=r"old\.yaml:1.*adaptation"):
        load_config(file)


@pytest.mark.promise(25, fault="orders without end, digits without end, digits that are none")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0-999999999999", [0, 1, 2, 3]), ("2, 1", [1, 2]), ("0 - 1", [0, 1]), ("9", None),
        ("9" * 5000, None), ("1_0", None), ("\u0663", None), ("-1", None), ("1-", None), ("", None),
    ],
)  # fmt: skip
def test_orders_are_read_or_refused_at_once(text, found):
    if found is None:
        with pytest.raises(ConfigError) as refused:
            orders(text, 3, "analysis.L")
        assert len(str(refused.value)) < 300
    else:
        assert orders(text, 3, "analysis.L") == found
