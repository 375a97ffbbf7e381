"""Converting once: divisions, interruptions, two at a time, sizes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import layouts
import numpy as np
import pytest
from binomctl_datasets.fc100 import FC100
from binomctl_datasets.image_folder import ImageFolder
from binomctl_datasets.mini_imagenet import MiniImageNet
from binomctl_datasets.omniglot import Omniglot
from command import binomctl

from binomctl.errors import ConfigError, DataError
from binomctl.images import convert as converting
from binomctl.images import prepare as preparing
from binomctl.images.divide import at_random
from binomctl.images.prepare import prepare
from binomctl.images.recipe import Recipe, store_path
from binomctl.images.store import INDEX, open_store, verify
from binomctl.testing import check_dataset


def test_one_folder_of_classes_is_divided_by_seed_or_by_file(tmp_path):
    layouts.folders(tmp_path / "three", size=16)
    flat = tmp_path / "flat"
    flat.mkdir()
    for split in ("train", "val", "test"):
        for folder in (tmp_path / "three" / split).iterdir():
            folder.rename(flat / folder.name)
    dataset = ImageFolder(root=str(flat), ways=2, queries=2)
    index = prepare(dataset.recipe, flat).index
    divided = dataset.divide(index)
    names = {s: {c.name for c in cs} for s, cs in divided.items()}
    assert [len(n) for n in names.values()] == [14, 3, 4]
    assert len(set.union(*names.values())) == 21
    assert dataset.divide(index) == divided
    assert ImageFolder(root=str(flat), split_seed=1).divide(index) != divided
    check_dataset(type(dataset), dataclasses.asdict(dataset))

    listed = sorted(set.union(*names.values()))
    file = tmp_path / "splits.yaml"
    file.write_text(
        json.dumps({"train": listed[:4], "validation": listed[4:6], "test": listed[6:]})
    )
    chosen = ImageFolder(root=str(flat), split_file=str(file), ways=2, queries=2)
    assert [c.name for c in chosen.divide(index)["train"]] == listed[:4]
    file.write_text(
        json.dumps({"train": listed[:4], "validation": listed[3:6], "test": listed[6:]})
    )
    with pytest.raises(DataError, match="'train' and 'validation' share 1 class"):
        chosen.divide(index)
    file.write_text(json.dumps({"train": ["n1"], "validation": [], "test": []}))
    with pytest.raises(DataError, match="unknown class 'n1'"):
        chosen.divide(index)
    file.write_text("train: [a]\ntrain: [b]\n")
    with pytest.raises(ConfigError, match="duplicate key"):
        chosen.divide(index)


def test_omniglot_is_divided_by_characters_or_by_alphabets(tmp_path):
    layouts.omniglot(tmp_path)
    prepare(Omniglot(root=str(tmp_path)).recipe, tmp_path)
    index = open_store(store_path(Omniglot(root=str(tmp_path)).recipe, tmp_path)).index
    by_character = Omniglot(root=str(tmp_path)).divide(index)
    assert [len(c) for c in by_character.values()] == [20, 2, 8]
    by_alphabet = Omniglot(root=str(tmp_path), division="alphabets").divide(index)
    groups = {s: {c.name.split("/")[0] for c in cs} for s, cs in by_alphabet.items()}
    assert groups["test"] == {"evaluation_0", "evaluation_1"}
    assert len(groups["validation"]) == 1
    assert not groups["train"] & groups["validation"]
    published = [type(index.splits["background"][0])(f"a/{i}", i, 20) for i in range(1623)]
    shares = at_random(published, (1100 / 1623, 100 / 1623, 423 / 1623), 0)
    assert [len(c) for c in shares.values()] == [1100, 100, 423]


def test_an_interrupted_conversion_goes_on_where_it_was(tmp_path, monkeypatch):
    layouts.mini_learn2learn(tmp_path)
    recipe = MiniImageNet(root=str(tmp_path)).recipe
    whole = prepare(recipe, tmp_path, tmp_path / "whole")
    written = []
    real = converting._write_class

    def stop_at_the_tenth(owner, *rest):
        if len(written) == 10:
            raise KeyboardInterrupt
        written.append(owner.name)
        return real(owner, *rest)

    monkeypatch.setattr(converting, "_write_class", stop_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, tmp_path)
    assert not store_path(recipe, tmp_path).exists()
    journal = store_path(recipe, tmp_path).with_name("mini-imagenet-84.partial") / "progress.jsonl"
    with journal.open("a") as file:
        file.write('{"class": "train/n1')  # torn
    again = []

    def count(owner, *rest):
        again.append(owner.name)
        return real(owner, *rest)

    monkeypatch.setattr(converting, "_write_class", count)
    store = prepare(recipe, tmp_path)
    assert len(again) == 21 - 10
    assert np.array_equal(store.images, whole.images)
    assert store.index.splits == whole.index.splits


def test_a_killed_conversion_leaves_nothing_under_the_final_name_and_is_finished_later(tmp_path):
    layouts.folders(tmp_path, size=84)
    command = [sys.executable, "-m", "binomctl", "data", "prepare", "mini-imagenet", "--root",
               str(tmp_path)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    partial = tmp_path / "prepared" / "mini-imagenet-84.partial"
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        journal = partial / "progress.jsonl"
        if journal.exists() and journal.read_text().count("\n") > 3:
            break
        time.sleep(0.001)
    process.kill()
    process.wait()
    if not (tmp_path / "prepared" / "mini-imagenet-84").exists():
        assert partial.exists()
    store = prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)
    assert verify(store, {}) == ([], [])
    assert store.index.total == 420


def test_two_processes_do_not_convert_the_same_thing(tmp_path):
    layouts.fc100(tmp_path)
    recipe = FC100(root=str(tmp_path)).recipe
    told: list[str] = []

    class Told(converting.Silent):
        def start(self, what, total):
            told.append(what)

    lock = store_path(recipe, tmp_path).with_name(".fc100-32.lock")
    lock.parent.mkdir()
    with preparing._alone(lock, Told()):
        other = threading.Thread(target=prepare, args=(recipe, tmp_path, None, Told()))
        other.start()
        while not told:
            time.sleep(0.01)
        assert "waiting for another process" in told[0]
        assert not store_path(recipe, tmp_path).exists()
    other.join()
    command = [sys.executable, "-m", "binomctl", "data", "prepare", "mini-imagenet", "--root",
               str(tmp_path)]  # fmt: skip
    layouts.mini_learn2learn(tmp_path)
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait() for process in both] == [0, 0, 0]
    for name in (FC100, MiniImageNet):
        store = open_store(store_path(name(root=str(tmp_path)).recipe, tmp_path))
        assert verify(store, {}) == ([], [])
        assert sorted(p.name for p in store.path.iterdir()) == ["images.npy", "index.json"]


def test_another_size_is_another_store(tmp_path):
    layouts.fc100(tmp_path)
    binomctl("data", "prepare", "fc100", "--root", tmp_path, "--size", "16")
    binomctl("data", "prepare", "fc100", "--root", tmp_path, "--to", tmp_path / "else")
    small = FC100(root=str(tmp_path), image_size=16, queries=2)
    assert small.in_shape == (3, 16, 16)
    assert FC100(root=str(tmp_path / "else"), queries=2).in_shape == (3, 32, 32)
    with pytest.raises(DataError, match="was prepared with size 32 and not 16"):
        FC100(root=str(tmp_path / "else"), image_size=16).episode("train", 0)


def test_a_recipe_needs_nothing_but_its_layouts(tmp_path):
    """An outside plugin's data set is prepared by the same code."""
    layouts.folders(tmp_path, size=12)
    from binomctl.images.layouts.folders import SplitFolders
    from binomctl.images.sources import Shape

    store = prepare(Recipe("mine", (SplitFolders(),), Shape("L", None)), tmp_path)
    assert store.index.shape == (12, 12, 1)


@pytest.mark.promise(1, fault="data prepare killed at every file operation of its end")
@pytest.mark.long
def test_a_preparation_killed_while_it_clears_up_is_finished_by_the_next(tmp_path):
    """An archive is unpacked; a child dies at one operation after another once the index is
    written, and whoever comes next gets the store."""
    source = tmp_path / "source"
    source.mkdir()
    layouts.mini_tar(source)
    shutil.copytree(source, tmp_path / "whole")
    wanted = prepare(MiniImageNet(root=str(tmp_path / "whole")).recipe, tmp_path / "whole").index
    number, lived = 0, False
    while not lived:
        number += 1
        root = tmp_path / f"root{number}"
        shutil.copytree(source, root)
        recipe = MiniImageNet(root=str(root)).recipe
        lived = _killed_after_the_index(recipe, root, number)
        found = prepare(recipe, root)
        assert found.index.splits == wanted.splits
        assert not list(root.rglob("*.partial"))
        shutil.rmtree(root)
    assert number > 5


def _killed_after_the_index(recipe, root, number):
    """Prepare in a child that dies at its number-th deletion or renaming after the index is there;
    whether it lived."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event, args):
            nonlocal seen
            if event in ("os.remove", "os.rename", "os.rmdir", "shutil.rmtree") and list(
                root.rglob(f"*.partial/{INDEX}")
            ):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        prepare(recipe, root)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
