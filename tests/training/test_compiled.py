"""The compiled meta-step says what the plain one says; when it is used; the allocator's switch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from command import in_a_process

from binomctl.curvature.analytic import native
from binomctl.errors import ConfigError
from binomctl.machine.allocator import tune_allocator
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.training.recordable import PAYS_FROM, compiles
from binomctl.training.step import step_function

TINY = {"dataset.name": "sinusoid", "training.meta_batch": 3, "model.width": 6}


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch):
    """A perceptron whose passes are not native, which alone is compiled."""
    monkeypatch.setenv(native.SWITCH, "0")
    native._library.cache_clear()
    yield
    native._library.cache_clear()


def problem(**overrides):
    keyed = {key.replace("__", "."): value for key, value in overrides.items()}
    return build_problem(load_config(overrides=TINY | keyed)[0])


# torch's compiler itself warns of what it uses inside.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"estimator__name": "maml"}, marks=pytest.mark.slow),
        {"rule__name": "meta-sgd", "adaptation__loss_reduction": "sum"},
    ],
    ids=["maml", "binom under meta-sgd"],
)
def test_compiled_is_eager(options):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    results = []
    for how in ("off", "on"):
        p = problem(engine__compile=how, adaptation__K=3, **options)
        compute = step_function(p)
        found = []
        for index in (0, 3):
            batch = p.training_batch(range(index, index + 3))
            at = compute(p.theta, p.m, batch)
            found += [at.loss, at.prediction, *at.per_task]
        results.append(found)
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=2e-5, atol=1e-6)
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_long_run_is_compiled_and_says_so():
    assert compiles(problem(training__steps=PAYS_FROM - 1)) == ""
    assert f"{PAYS_FROM:,} meta-steps pay for it" in compiles(problem(training__steps=PAYS_FROM))
    assert compiles(problem(training__steps=PAYS_FROM, engine__compile="off")) == ""
    assert "as asked" in compiles(problem(engine__compile="on"))


def test_native_passes_are_not_compiled(monkeypatch):
    monkeypatch.delenv(native.SWITCH)
    native._library.cache_clear()
    with pytest.raises(ConfigError, match="ReLUs run in kernels that are compiled already"):
        compiles(problem(engine__compile="on"))
    assert compiles(problem(training__steps=PAYS_FROM)) == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine__kind": "autograd"}, "only the layer algebra"),
        (
            {"dataset__name": "glyphs", "dataset__image_size": 16},
            "that are compiled already",
        ),
        ({"estimator__name": "imaml"}, "diagnoses itself"),
        ({"adaptation__batch": 2}, "mini-batches"),
    ],
)
def test_what_cannot_be_compiled_says_why(options, words):
    overrides = {"engine__compile": "on"} | options
    if "dataset__name" in options:
        keyed = {k.replace("__", "."): v for k, v in overrides.items()}
        p = build_problem(load_config(overrides=keyed | {"training.meta_batch": 2})[0])
    else:
        p = problem(**overrides)
    with pytest.raises(ConfigError, match=words):
        compiles(p)
    auto = {k: v for k, v in overrides.items() if k != "engine__compile"}
    if "dataset__name" not in options:
        assert compiles(problem(training__steps=PAYS_FROM, **auto)) == ""


def test_what_cannot_be_compiled_leaves_no_run_behind(tmp_path):
    command = ["train", "--compile", "on", "--set", "dataset.image_size=16", "--out", "run"]
    done = in_a_process(*command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "compiled already" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_allocator_is_tuned_where_it_can_be_and_not_where_it_is_switched_off(monkeypatch):
    code = (
        "from binomctl.machine.allocator import tune_allocator as t; print(t(), t(one_arena=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"]
    monkeypatch.setenv("BINOMCTL_MALLOC", "0")
    assert not tune_allocator()
    monkeypatch.delenv("BINOMCTL_MALLOC")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not tune_allocator()
