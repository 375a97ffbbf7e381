"""What the fast engine decides or is told: convolutions by measurement, precision, CUDA graphs."""

from __future__ import annotations

import json
import os
import threading

import pytest
import torch
from command import binomctl
from torch import nn
from torch.nn import functional as F

from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature import choose_engine
from binomctl.curvature.analytic import measured
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.analytic.measured import CANDIDATES, measured_convolution
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError, ResourceError
from binomctl.flat import initial_parameters
from binomctl.models.conv4 import Conv4
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.settings.registry import create
from binomctl.training.recordable import captures
from binomctl.training.step import step_function

SMALL = {"model.filters": 16, "training.meta_batch": 2, "dataset.queries": 2}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def images(B=2, N=5):
    torch.manual_seed(0)
    return torch.rand(B, N, 1, 16, 16), torch.arange(5).expand(B, -1)


def way_of(filters=16):
    model = Conv4(filters=filters).build((1, 16, 16), 5)
    x, y = images()

    first = AnalyticEngine(model, F.cross_entropy)
    return measured_convolution(first, initial_parameters(model), (x, y, x, y))


def test_convolutions_are_measured_once_per_machine_and_shape(cache, monkeypatch):
    races = []
    real = measured._race

    def race(engines, *args):
        races.append(list(engines))
        return real(engines, *args)

    monkeypatch.setattr(measured, "_race", race)
    first = way_of()
    assert first == way_of()
    assert races == [list(CANDIDATES["cpu"])]
    way_of(filters=8)
    assert len(races) == 2, "another network is another question"
    kept = [json.loads(path.read_text()) for path in cache.iterdir()]
    assert all(set(k["milliseconds"]) == set(CANDIDATES["cpu"]) for k in kept)


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ({"blocks": 10.0, "per-task": 9.5, "together": 30.0, "products": 30.0}, "blocks"),
        ({"blocks": 10.0, "per-task": 8.0, "together": 30.0, "products": 30.0}, "per-task"),
        ({"together": 30.0, "products": 20.0}, "products"),  # the others ran out of memory
    ],
)
def test_another_way_must_be_clearly_faster(cache, monkeypatch, times, wanted):
    monkeypatch.setattr(measured, "_race", lambda *args: times)
    assert way_of() == wanted


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("none left"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        ResourceError("no memory left for forward"),
    ],
)
def test_what_runs_out_of_memory_drops_out(cache, monkeypatch, error):
    real = AnalyticEngine.query

    def query(self, phi, x, y):
        if self.conv != "products":
            raise error
        return real(self, phi, x, y)

    monkeypatch.setattr(AnalyticEngine, "query", query)
    model = Conv4(filters=16).build((1, 16, 16), 5)
    x, y = images()
    theta = initial_parameters(model)
    first = AnalyticEngine(model, F.cross_entropy)
    assert measured_convolution(first, theta, (x, y, x, y)) == "products"


@pytest.mark.parametrize("content", ["{}", '{"convolution": "by magic"}', "no json"])
def test_a_damaged_or_unfinished_answer_is_the_first_candidate(cache, content):
    way_of()
    (path,) = cache.iterdir()
    path.write_text(content)
    assert way_of() == "blocks"
    assert path.read_text() == content, "somebody else may be measuring"


def test_another_process_s_answer_is_waited_for_and_an_abandoned_one_is_not(cache, monkeypatch):
    way_of()
    (path,) = cache.iterdir()
    path.write_text("")
    answer = threading.Timer(0.3, path.write_text, ['{"convolution": "products"}'])
    answer.start()
    assert way_of() == "products"
    answer.join()
    path.write_text("")
    monkeypatch.setattr(measured, "PATIENCE", 0.1)
    assert way_of() == "blocks", "nobody answers"
    os.utime(path, (0, 0))
    monkeypatch.setattr(measured, "_race", lambda *args: {"together": 1.0, "blocks": 5.0})
    assert way_of() == "together", "whoever was measuring has died"


def test_without_a_place_to_keep_it_nothing_is_measured(cache, monkeypatch):
    cache.write_text("a file where the folder would be")
    monkeypatch.setattr(measured, "_race", None)
    assert way_of() == "blocks"


def test_a_run_says_what_was_chosen_and_a_user_may_choose(cache, tmp_path):
    few = ["--steps", "1", "--json", "--set", "training.validation_tasks=2"]
    few += ["--set", "model.filters=4", "--set", "training.queries=1"]
    binomctl("train", *few, "--out", tmp_path / "run")
    (path,) = cache.iterdir()
    chosen = json.loads(path.read_text())["convolution"]
    assert f"convolution: {chosen}\n" in (tmp_path / "run/config.yaml").read_text()
    mine = "--set", "engine.convolution=products"
    binomctl("train", *few, *mine, "--out", tmp_path / "mine")
    assert "convolution: products\n" in (tmp_path / "mine/config.yaml").read_text()


# Precision --------------------------------------------------------------------------------------


def test_products_in_bfloat16_and_nothing_else():
    torch.manual_seed(1)
    model = Conv4(filters=16).build((1, 16, 16), 5)
    x, y = images()
    phi = initial_parameters(model).expand(2, -1)
    v = torch.randn(2, 1, phi.shape[1])
    sides = []
    for precision in ("full", "bf16"):
        engine = AnalyticEngine(model, F.cross_entropy, precision=precision, conv="together")
        at = engine.curvature(x, y)
        sides.append((*at.gradient(phi, 0, True), at.hvp([0], v)))
    (loss, gradient, full), (low_loss, low_gradient, low) = sides
    assert torch.equal(loss, low_loss)
    assert torch.equal(gradient, low_gradient)
    assert low.dtype == torch.float32
    error = float((low - full).norm() / full.norm())
    assert 1e-4 < error < 0.1, error  # 8 bits: some per cent at most, and not nothing


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_an_estimate_in_bfloat16_under_every_schedule(order, memory):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    x, y = torch.randn(2, 6, 3), torch.randn(2, 6, 2)
    rule, estimator = create("rule", "gd", {}), create("estimator", "binom", {"L": 2})
    found = []
    for precision in ("full", "bf16"):
        engine = AnalyticEngine(model, F.mse_loss, precision=precision, order=order, memory=memory)
        how = Adaptation(4, 0.1, rule, rule.initial(engine.layout), engine.layout)
        batch = EpisodeBatch(x, y, x, y)
        theta = initial_parameters(model)
        adapted, _, _ = adapt_and_validate(engine, theta, batch, how, range(4))
        found.append(estimator.meta_gradient(adapted))
    error = float((found[0] - found[1]).norm() / found[0].norm())
    assert 1e-5 < error < 0.05, error


def test_error_analysis_prints_what_precision_costs():
    options = ["--dataset", "sinusoid", "--batches", "3", "--set", "dtype=float32"]
    low = [*options, "--set", "engine.precision=bf16"]
    out, _ = binomctl("error-analysis", *low, "--json")
    report = json.loads(out)
    cost = report["precision"]
    assert cost["products"] == "bf16"
    assert cost["error"]["n"] == 3
    assert 1e-5 < cost["error"]["mean"] < 0.1
    exact = [e for e in report["errors"] if (e["estimator"], e["L"]) == ("binom", 5)]
    assert exact[0]["relative"]["mean"] == pytest.approx(cost["error"]["mean"])
    out, _ = binomctl("error-analysis", *low)
    assert "products in bf16: the exact meta-gradient is off by" in out
    out, _ = binomctl("error-analysis", *options, "--json")
    assert json.loads(out)["precision"] is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"engine.precision": "tf32"}, "only NVIDIA GPUs know it"),
        ({"engine.precision": "bf16", "dtype": "float64"}, "these are torch.float64"),
        ({"engine.precision": "bf16", "engine.kind": "autograd"}, "only the layer algebra has it"),
        ({"engine.capture": "on", "device": "cpu"}, "no CUDA graphs on cpu"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(settings, reason):
    config, _ = load_config(overrides=SMALL | settings)
    with pytest.raises(ConfigError, match=reason) as caught:
        captures(build_problem(config))
    assert caught.value.key == next(iter(settings))


def test_yaml_s_on_and_off(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("engine: {compile: off, capture: on}\n")
    config, _ = load_config(file)
    assert (config.engine.compile, config.engine.capture) == ("off", "on")


# GPUs -------------------------------------------------------------------------------------------

on_a_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="CUDA graphs need a CUDA GPU; there is none here"
)


@on_a_gpu
@pytest.mark.parametrize("name", ["maml", "binom", "trunc", "fomaml"])
def test_a_recorded_step_is_the_step(name):
    config, _ = load_config(overrides=SMALL | {"device": "cuda", "estimator.name": name})
    problem = build_problem(config)
    assert isinstance(problem.engine, AnalyticEngine)
    assert captures(problem)
    off = config.model_copy(update={"engine": config.engine.model_copy(update={"capture": "off"})})
    eager = step_function(build_problem(off))
    recorded = step_function(problem)
    for i in range(3):  # the first records, the others replay with other tasks
        batch = problem.training_batch(range(2 * i, 2 * i + 2))
        wanted = eager(problem.theta, problem.m, batch)
        found = recorded(problem.theta, problem.m, batch)
        torch.testing.assert_close(found.per_task[0], wanted.per_task[0], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(found.loss, wanted.loss)


@on_a_gpu
@pytest.mark.parametrize("conv", CANDIDATES["cuda"])
def test_a_gpu_s_products_are_the_cpu_s(conv):
    torch.manual_seed(2)
    model = Conv4(filters=16).build((1, 16, 16), 5).double()
    x, y = images()
    results = []
    for device in ("cpu", "cuda"):
        placed = model.to(device)
        phi = initial_parameters(placed).expand(2, -1)
        engine = AnalyticEngine(placed, F.cross_entropy, conv=conv)
        at = engine.curvature(x.double().to(device), y.to(device))
        _, gradient = at.gradient(phi, 0, True)
        product = at.hvp([0], gradient.unsqueeze(1))
        results.append((gradient.cpu(), product.cpu()))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


def test_the_algebra_is_checked_against_autograd_before_it_is_used(monkeypatch):
    """A gradient and a product are compared; here an engine that computes wrongly is played."""
    model = Conv4(filters=4).build((1, 16, 16), 5)
    x, _ = images(1)
    assert isinstance(choose_engine(model, F.cross_entropy, x[0]), AnalyticEngine)
    real = AnalyticEngine.linearise

    def wrong(self, phi, x, y, *, keep):
        loss, gradient, hessian = real(self, phi, x, y, keep=keep)
        return loss, 1.1 * gradient, hessian

    monkeypatch.setattr(AnalyticEngine, "linearise", wrong)
    chosen = choose_engine(model, F.cross_entropy, x[0])
    assert type(chosen).__name__ == "AutogradEngine"
    with pytest.raises(ConfigError, match="its gradient is off by 1"):
        choose_engine(model, F.cross_entropy, x[0], kind="analytic")
