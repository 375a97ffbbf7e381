"""Where data lies: which folder is taken for a data set, and which is not."""

from __future__ import annotations

import layouts
import pytest
from binomctl_datasets.cifar_fs import CIFARFS
from binomctl_datasets.fc100 import FC100
from binomctl_datasets.image_folder import ImageFolder
from binomctl_datasets.mini_imagenet import MiniImageNet
from command import in_a_process

from binomctl.errors import (
    ConfigError,
    DataError,
)
from binomctl.images.prepare import prepare


def test_an_incomplete_layout_does_not_hide_a_complete_one(tmp_path):
    layouts.mini_learn2learn(tmp_path)
    (tmp_path / "mini-imagenet-cache-validation.pkl").unlink()
    recipe = MiniImageNet(root=str(tmp_path)).recipe
    with pytest.raises(DataError, match=r"but not mini-imagenet-cache-validation.pkl"):
        prepare(recipe, tmp_path)
    layouts.mini_metaoptnet(tmp_path)
    assert prepare(recipe, tmp_path).index.layout.startswith("MetaOptNet")


def test_a_root_that_is_another_data_set_is_not_taken(tmp_path):
    layouts.folders(tmp_path, size=12)
    for cls in (FC100, CIFARFS):
        with pytest.raises(DataError, match="in a known layout"):
            prepare(cls(root=str(tmp_path)).recipe, tmp_path)
    (tmp_path / "index.json").write_text("{}")  # of some other program
    prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)


def test_folders_of_capital_letters_and_images_one_level_down(tmp_path):
    layouts.folders(tmp_path, size=12)
    for short, name in (("train", "Train"), ("val", "Val"), ("test", "Test")):
        (tmp_path / short).rename(tmp_path / name)
    for c in list((tmp_path / "Train").iterdir()):
        c.rename(tmp_path / "moving")
        c.mkdir()
        (tmp_path / "moving").rename(c / "images")
        for image in (c / "images").iterdir():
            image.rename(image.with_suffix(".PNG"))
    assert prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path).index.total == 420


def test_to_an_occupied_folder_is_refused_before_anything_is_read(tmp_path):
    layouts.fc100(tmp_path / "data")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    for to in (tmp_path / "full", tmp_path / "full" / "mine.txt"):
        with pytest.raises(ConfigError, match="no prepared data set"):
            prepare(FC100(root=str(tmp_path / "data")).recipe, tmp_path / "data", to)
    with pytest.raises(ConfigError, match="at most 1024"):
        FC100(root=str(tmp_path), image_size=10**6)


def test_a_run_finds_its_data_from_another_folder(tmp_path, monkeypatch):
    layouts.fc100(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    train = ["train", "--dataset", "fc100", "--steps", "1", "--out", str(tmp_path / "run"),
             "--set", "training.queries=2", "--set", "evaluation.queries=2", "--set",
             "model.filters=2", "--set", "dataset.root=data"]  # fmt: skip
    evaluate = ["eval", str(tmp_path / "run"), "--tasks", "2"]
    assert in_a_process(*train).returncode == 0
    (tmp_path / "elsewhere").mkdir()
    done = in_a_process(*evaluate, cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    (tmp_path / "data").rename(tmp_path / "moved")
    assert in_a_process(*evaluate).returncode == 3
    done = in_a_process(*evaluate, "--root", "moved")
    assert done.returncode == 0, done.stderr


def test_names_of_folders_are_neither_markup_nor_mathematics(tmp_path):
    root = tmp_path / "we[/ird]"
    layouts.folders(root, size=12)
    for c in list((root / "train").iterdir())[:3]:
        c.rename(c.with_name(f"cost$_{{{c.name[-1]}$ x^^"))
    at = ["image-folder", "--root", str(root)]
    picture = str(tmp_path / "x.png")
    for command in (["list", "--root", str(root)], ["prepare", *at], ["verify", *at],
                    ["show", *at, "-o", picture]):  # fmt: skip
        done = in_a_process("data", *command)
        assert done.returncode == 0, done.stderr
