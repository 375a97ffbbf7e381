"""Tasks of several data sets, and tasks of varying ways and shots."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from binomctl_datasets.glyphs import Glyphs
from binomctl_datasets.image_folder import ImageFolder
from binomctl_datasets.mix import Mix
from binomctl_datasets.random_images import RandomImages
from binomctl_datasets.sinusoid import Sinusoid
from command import binomctl
from layouts import noise_folders
from PIL import Image

from binomctl.errors import ConfigError, DataError
from binomctl.images import varied
from binomctl.images.prepare import prepare
from binomctl.runs import RunDirectory

QUICK = ["--steps", 2, "--K", 2, "--set", "training.validate_every=1", "--set",
         "training.validation_tasks=2", "--set", "model.filters=4"]  # fmt: skip


def mix(**options):
    return Mix(of=(Glyphs(), RandomImages()), image_size=16, mode="RGB", queries=2, **options)


def test_every_task_is_one_of_a_member_with_the_mix_s_own_shape():
    data = mix(weights=(3.0, 1.0), ways=3, shots=2)
    assert data.in_shape == (3, 16, 16)
    counts = {"Glyphs": 0, "RandomImages": 0}
    for i in range(200):
        member = data.member("train", i)
        counts[type(member).__name__] += 1
        if i < 10:
            episode, own = data.episode("train", i), member.episode("train", i)
            assert episode.x_trn.shape == (6, 3, 16, 16)
            assert torch.equal(episode.x_trn[:, :1], own.x_trn[:, :1])
            assert torch.equal(episode.y_val, own.y_val)
            kind = type(member).__name__
            assert all(name.startswith(kind) for name in data.class_names("train", i))
    assert 130 < counts["Glyphs"] < 170  # 150 in the mean, 6 its deviation
    again = mix(weights=(3.0, 1.0), ways=3, shots=2)
    assert [type(again.member("train", i)) for i in range(20)] == [
        type(data.member("train", i)) for i in range(20)
    ]


def test_colour_becomes_grey_as_pillow_has_it():
    data = Mix(of=(Glyphs(), RandomImages()), image_size=16, mode="L", weights=(0.0, 1.0))
    colour = data.of[1].episode("train", 0).x_trn
    grey = data.episode("train", 0).x_trn
    wanted = np.asarray(Image.fromarray(colour[0].permute(1, 2, 0).numpy()).convert("L"))
    assert np.abs(grey[0, 0].numpy().astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Mix(of=(Glyphs(),)), "of names 1 data sets"),
        (lambda: Mix(of=(Glyphs(), Sinusoid())), "Sinusoid is no few-shot classification"),
        (lambda: mix(weights=(1.0,)), "2 data sets need so many"),
        (lambda: Mix(of=(Glyphs(), RandomImages())).in_shape, "different shapes: Glyphs"),
    ],
)
def test_what_cannot_be_mixed_is_named(build, said):
    with pytest.raises(ConfigError, match=said):
        build()


def test_a_mix_is_trained_evaluated_and_recorded(tmp_path):
    (tmp_path / "mix.yaml").write_text(
        "dataset:\n  name: mix\n  of: [glyphs, {name: random-images, channels: 1}]\n"
        "  image_size: 16\n  weights: [2, 1]\n  queries: 2\n"
    )
    run = tmp_path / "run"
    binomctl("train", "--config", tmp_path / "mix.yaml", *QUICK, "--out", run)
    members = RunDirectory.open(run).config().dataset.options["of"]
    assert [m["name"] for m in members] == ["glyphs", "random-images"]
    assert members[1]["channels"] == 1
    out, _ = binomctl("eval", run, "--tasks", 3, "--log-tasks", tmp_path / "t.csv", "--json")
    assert json.loads(out)["dataset"] == "mix"
    assert "Glyphs" in (tmp_path / "t.csv").read_text()
    _, err = binomctl("train", "--dataset", "mix", "--set", "dataset.of=[glyphs, glyfs]", code=2)
    assert "Did you mean 'glyphs'" in err


def folder(root, counts):
    noise_folders(root, {f"class{c:02d}": n for c, n in enumerate(counts)}, (16, 16, 3))


def test_ways_and_shots_vary_as_meta_dataset_says():
    counts = np.array([3, 8, 20, 40, 100, 600, 600, 600])
    seen = set()
    for i in range(300):
        task = varied.draw(counts, 50, 10, np.random.default_rng(i))
        have = counts[task.classes]
        assert len(set(task.classes)) == len(task.classes) >= varied.LEAST_WAYS
        assert task.queries == min(10, (have // 2).min())
        assert (task.shots >= 1).all()
        assert (task.shots + task.queries <= have).all()
        assert task.shots.sum() <= varied.MOST_SUPPORT
        seen.add(len(task.classes))
    assert seen == {5, 6, 7, 8}
    large = np.full(60, 600)
    tasks = [varied.draw(large, 50, 10, np.random.default_rng(i)) for i in range(200)]
    assert max(len(t.classes) for t in tasks) <= 50
    spread = [t.shots.max() / t.shots.min() for t in tasks if t.shots.min() > 5]
    assert max(spread) > 1.5  # the classes of a task differ, by up to four times


def test_a_folder_s_tasks_vary_and_train_one_at_a_time(tmp_path):
    folder(tmp_path / "data", [4, 5, 6, 8, 10, 12, 14, 16] * 4)
    data = ImageFolder(root=str(tmp_path / "data"), ways=7, queries=3, varied=True)
    prepare(data.recipe, tmp_path / "data")
    shapes = set()
    for i in range(20):
        e = data.episode("train", i)
        ways = int(e.y_trn.max()) + 1
        assert set(e.y_trn.tolist()) == set(e.y_val.tolist()) == set(range(ways))
        assert ways == len(data.class_names("train", i)) <= 7
        pixels = torch.cat([e.x_trn, e.x_val]).flatten(1)
        assert len(torch.unique(pixels, dim=0)) == len(pixels)  # no image twice in a task
        shapes.add(tuple(e.y_trn.shape))
    assert len(shapes) > 5
    # Answers that a task has no class for are not counted for it.
    said = torch.tensor([[0.0, 1.0, 5.0]])
    assert data.metric(said, torch.tensor([1])) == 1.0
    some = ["--dataset", "image-folder", "--root", tmp_path / "data", "--ways", 6,
            "--set", "dataset.varied=true", "--set", "dataset.queries=2"]  # fmt: skip
    _, err = binomctl("train", *some, *QUICK, "--out", tmp_path / "no", code=3)
    assert "training.meta_batch=1" in err
    run = tmp_path / "run"
    binomctl("train", *some, *QUICK, "--meta-batch", 1, "--out", run)
    out, _ = binomctl("eval", run, "--tasks", 4, "--json")
    assert 0 <= json.loads(out)["mean"] <= 1
    few = ImageFolder(root=str(tmp_path / "data"), split_seed=1, varied=True, shots=9)
    assert few.episode("test", 0).y_trn.max() >= 1  # shots say nothing then


def test_too_few_classes_are_said_for_varying_tasks_too(tmp_path):
    folder(tmp_path / "data", [1, 1, 1, 4, 4])
    data = ImageFolder(root=str(tmp_path / "data"), varied=True)
    prepare(data.recipe, tmp_path / "data")
    with pytest.raises(DataError, match="split 'test' of image-folder has 1"):
        data.episode("test", 0)
