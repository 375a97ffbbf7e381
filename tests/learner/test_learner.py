"""A trained network in use: against eval on its own tasks, against plain torch on others."""

from __future__ import annotations

import shutil

import pytest
import torch
from binomctl_datasets.glyphs import Glyphs
from command import binomctl
from PIL import Image
from torch.nn import functional as F

import binomctl as package
from binomctl.errors import ConfigError, DataError
from binomctl.runs import RunDirectory
from binomctl.runs.evaluations import Asked, kept
from binomctl.runs.provenance import fingerprint

QUICK = ["--steps", 2, "--meta-batch", 2, "--K", 2, "--set", "training.validate_every=2",
         "--set", "training.validation_tasks=2", "--set", "evaluation.steps=3"]  # fmt: skip
SMALL = ["--set", "model.filters=4", "--set", "dataset.image_size=16", "--set", "dtype=float64"]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """name, options -> a trained run, made once."""
    made = {}
    root = tmp_path_factory.mktemp("runs")

    def make(name, *options):
        if name not in made:
            binomctl("train", *QUICK, *options, "--out", root / name)
            made[name] = root / name
        return made[name]

    return make


RUNS = {
    "gd": SMALL,
    "anil": [*SMALL, "--rule", "anil"],
    "meta-sgd": [*SMALL, "--rule", "meta-sgd"],
    "proto-maml": [*SMALL, "--rule", "proto-maml"],
    "momentum": [*SMALL, "--set", "adaptation.optimizer={name: sgd, momentum: 0.5}"],
    "per-step": [*SMALL, "--set", "adaptation.statistics=per-step"],
    "frozen": [*SMALL, "--set", "adaptation.statistics=frozen"],
    "sinusoid": ["--dataset", "sinusoid", "--set", "dtype=float64"],
}


@pytest.mark.parametrize("name", RUNS)
def test_it_scores_its_own_tasks_as_eval_does(run_of, name):
    run = run_of(name, *RUNS[name])
    binomctl("eval", run, "--tasks", 4)
    learner = package.load(run)
    problem_data = _dataset(learner)
    asked = Asked("test", 4, 3, 0)
    scores = kept(run, [RunDirectory.open(run).checkpoints.load("best")], asked,
                  fingerprint(problem_data, ["test"]))  # fmt: skip
    for i, score in enumerate(scores.scores):
        e = problem_data.episode("test", i)
        answer = learner.adapt(e.x_trn, e.y_trn).predict(e.x_val)
        assert float(problem_data.metric(answer, e.y_val)) == pytest.approx(score, rel=1e-9)


def _dataset(learner):
    from binomctl.problem.datasets import build_dataset, evaluation_dataset

    return evaluation_dataset(learner.config, build_dataset(learner.config), 0)


def _by_hand(learner, x, y, classes, *, rates=None, steps=3, head="head"):
    """Plain torch: the checkpoint's weights, every row of the head the mean, gradient descent."""
    model = learner.adapt(x, y, steps=1).module  # the architecture for so many classes
    weights = {n: t.double() for n, t in learner.checkpoint.model.items()}
    for part in ("weight", "bias"):
        row = weights[f"{head}.{part}"].mean(0, keepdim=True)
        weights[f"{head}.{part}"] = row.expand(classes, *row.shape[1:]).clone()
    scale: dict = dict.fromkeys(weights, 1.0)
    if rates is not None:
        at = 0
        for name in learner.checkpoint.learned:
            like = learner.checkpoint.model[name]
            part = rates[at : at + like.numel()].reshape(like.shape)
            at += like.numel()
            if name.startswith(head):
                part = part.mean(0, keepdim=True).expand(classes, *part.shape[1:])
            scale[name] = part
    pixels = x.double() / 255 if x.dtype == torch.uint8 else x.double()
    for _ in range(steps):
        p = {n: t.clone().requires_grad_() for n, t in weights.items()}
        loss = F.cross_entropy(torch.func.functional_call(model, p, (pixels,)), y)
        gradients = torch.autograd.grad(loss, list(p.values()))
        alpha = learner.config.adaptation.alpha
        weights = {
            n: (t - alpha * scale[n] * g).detach()
            for (n, t), g in zip(p.items(), gradients, strict=True)
        }
    return weights


@pytest.mark.parametrize("classes", [3, 7])
@pytest.mark.parametrize("name", ["gd", "meta-sgd"])
def test_other_numbers_of_classes_and_unequal_shots(run_of, name, classes):
    learner = package.load(run_of(name, *RUNS[name]))
    e = Glyphs(ways=classes, shots=4, queries=2, image_size=16).episode("test", 0)
    few = torch.tensor([i for i, c in enumerate(e.y_trn.tolist()) if i % 4 <= c % 3 + 1])
    x, y = e.x_trn[few], e.y_trn[few]
    assert len({(y == c).sum().item() for c in range(classes)}) > 1  # shots differ
    assert learner.default_steps(classes) == 4 * learner.default_steps(5)
    adapted = learner.adapt(x, y, steps=3)
    rates = learner.checkpoint.part("rule.").get("m")
    expected = _by_hand(learner, x, y, classes, rates=None if rates is None else rates.double())
    found = {name: p.detach() for name, p in adapted.module.named_parameters()}
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-12)
    assert adapted.predict(e.x_val).sum(-1).tolist() == pytest.approx([1.0] * len(e.x_val))
    assert f"{classes} classes" in learner.head_note(classes)


def test_proto_maml_makes_its_head_of_any_classes(run_of):
    learner = package.load(run_of("proto-maml", *RUNS["proto-maml"]))
    assert "proto-maml makes the head" in learner.head_note(3)
    e = Glyphs(ways=3, shots=2, queries=2, image_size=16).episode("test", 1)
    adapted = learner.adapt(e.x_trn, e.y_trn)
    assert adapted.predict(e.x_val).shape == (6, 3)


def test_a_rule_with_parameters_for_every_class_says_so(run_of):
    learner = package.load(run_of("mc", *SMALL, "--rule", "meta-curvature"))
    e = Glyphs(ways=3, shots=2, queries=2, image_size=16).episode("test", 1)
    with pytest.raises(ConfigError, match="learned parameters of its own for 5 classes"):
        learner.adapt(e.x_trn, e.y_trn)


def test_labels_of_any_kind_and_their_order(run_of):
    learner = package.load(run_of("gd", *RUNS["gd"]))
    e = Glyphs(image_size=16).episode("test", 2)
    names = ["cat", "ant", "dog", "bee", "emu"]
    adapted = learner.adapt(e.x_trn, [names[c] for c in e.y_trn])
    assert adapted.classes == ("ant", "bee", "cat", "dog", "emu")
    labels = adapted.labels(e.x_val)
    best = adapted.predict(e.x_val).argmax(-1)
    assert labels == [adapted.classes[i] for i in best]
    order = torch.tensor([names.index(c) for c in adapted.classes])
    again = learner.adapt(e.x_trn, torch.argsort(order)[e.y_trn])
    torch.testing.assert_close(again.predict(e.x_val), adapted.predict(e.x_val))


def test_what_does_not_fit_is_named(run_of):
    learner = package.load(run_of("gd", *RUNS["gd"]))
    x = torch.rand(4, 1, 16, 16)
    with pytest.raises(DataError, match="one class"):
        learner.adapt(x, [0, 0, 0, 0])
    with pytest.raises(DataError, match="4 examples and 3 labels"):
        learner.adapt(x, [0, 1, 0])
    with pytest.raises(DataError, match=r"x is \[4, 3, 16, 16\]"):
        learner.adapt(x.expand(4, 3, 16, 16), [0, 1, 0, 1])


@pytest.mark.parametrize("name", ["gd", "per-step", "frozen"])
def test_the_module_is_plain_torch(run_of, name):
    learner = package.load(run_of(name, *RUNS[name]))
    e = Glyphs(image_size=16).episode("test", 3)
    adapted = learner.adapt(e.x_trn, e.y_trn)
    module = adapted.module
    with torch.no_grad():
        logits = module(e.x_val.double() / 255)
    torch.testing.assert_close(logits.softmax(-1), adapted.predict(e.x_val), rtol=1e-9, atol=1e-12)
    assert adapted.transductive == (name == "gd")
    one = adapted.predict(e.x_val[:1])
    alone = torch.allclose(one, adapted.predict(e.x_val)[:1])
    assert alone != adapted.transductive  # averages and constants: an answer is its own


def test_it_is_used_without_the_data_it_was_trained_on(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        for c in range(5):
            folder = tmp_path / "data" / split / f"{split}{c}"
            folder.mkdir(parents=True)
            for i in range(4):
                grey = Image.new("L", (16, 16), 40 * c + 5 * i + number)
                grey.save(folder / f"{i}.png")
    options = ["--set", "dataset.mode=L", "--set", "dataset.queries=2", "--set", "model.filters=4"]
    binomctl("train", *QUICK, "--dataset", "image-folder", "--root", tmp_path / "data", *options,
             "--out", tmp_path / "run")  # fmt: skip
    shutil.rmtree(tmp_path / "data")
    learner = package.load(tmp_path / "run")
    adapted = learner.adapt(torch.rand(6, 1, 16, 16), [0, 1, 2, 0, 1, 2])
    assert adapted.predict(torch.rand(2, 1, 16, 16)).shape == (2, 3)
