"""Data that is damaged, missing, too little or too much alike: a fault injected in each test."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from pathlib import Path

import layouts
import numpy as np
import pytest
from binomctl_datasets.fc100 import FC100
from binomctl_datasets.image_folder import ImageFolder
from binomctl_datasets.mini_imagenet import MiniImageNet
from binomctl_datasets.tiered_imagenet import TieredImageNet
from command import in_a_process
from PIL import Image

from binomctl.errors import (
    ConfigError,
    DamagedFile,
    DataError,
    ResourceError,
)
from binomctl.images.prepare import prepare
from binomctl.images.recipe import store_path
from binomctl.images.store import IMAGES, INDEX, open_store, verify

pytestmark = pytest.mark.promise(
    12, fault="data files cut off, corrupt, of another kind, too few, changed since"
)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1000], "is damaged"),
        (lambda data: b"", "is empty"),
        (lambda data: b"<!DOCTYPE html><title>Quota exceeded</title>", "is a web page"),
        (lambda data: b"\xff" + data, "is damaged"),
    ],
)
def test_a_damaged_pickle_is_named(tmp_path, damage, words):
    layouts.mini_learn2learn(tmp_path)
    path = tmp_path / "mini-imagenet-cache-validation.pkl"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFile, match=words) as caught:
        prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)
    assert caught.value.path == path
    assert path.exists()  # a file of the user's stays where it is


def test_a_record_without_what_is_needed_is_named(tmp_path):
    layouts.mini_learn2learn(tmp_path)
    path = tmp_path / "mini-imagenet-cache-test.pkl"
    recipe = MiniImageNet(root=str(tmp_path)).recipe
    faults = [
        ([1, 2], "holds a list"),
        ({"images": 1}, "holds images; expected image_data and class_dict"),
        ({"image_data": np.zeros((2, 4, 4, 3)), "class_dict": {}}, r"float64 \[2, 4, 4, 3\]"),
        ({"image_data": np.zeros((2, 4, 4, 3), np.uint8), "class_dict": {"a": [2]}}, "image 2"),
        ({"data": np.zeros((2, 4, 4, 3), np.uint8), "labels": [1]}, "2 images, but 1 labels"),
    ]
    for value, words in faults:
        layouts.dump(path, value)
        with pytest.raises(DataError, match=words) as caught:
            prepare(recipe, tmp_path)
        assert str(path) in str(caught.value)


def test_a_missing_split_is_named(tmp_path):
    layouts.mini_learn2learn(tmp_path)
    (tmp_path / "mini-imagenet-cache-test.pkl").unlink()
    with pytest.raises(DataError, match=r"but not mini-imagenet-cache-test.pkl"):
        prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)
    layouts.tiered_png(tmp_path)
    (tmp_path / "tiered-imagenet" / "val_labels.pkl").unlink()
    with pytest.raises(DataError, match=r"val_labels.pkl with its labels is not"):
        prepare(TieredImageNet(root=str(tmp_path)).recipe, tmp_path)
    folder = tmp_path / "folders"
    layouts.folders(folder, size=12)
    shutil.rmtree(folder / "val")
    with pytest.raises(DataError, match="no folder val"):
        prepare(ImageFolder(root=str(folder)).recipe, folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no fc100 in a known layout") as caught:
        prepare(FC100(root=str(empty)).recipe, empty)
    assert not list(empty.iterdir())
    assert "FC100_{train,val,test}.pickle" in caught.value.hint


def test_a_damaged_image_is_named_with_its_place(tmp_path):
    layouts.folders(tmp_path, size=12)
    victim = sorted((tmp_path / "val").rglob("*.png"))[3]
    victim.write_bytes(victim.read_bytes()[:60])
    store = prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path)
    (line,) = store.index.left_out
    assert f"{victim} is not a readable image" in line
    tiered = tmp_path / "tiered"
    layouts.tiered_png(tiered)
    path = tiered / "tiered-imagenet" / "test_images_png.pkl"
    encoded = pickle.loads(path.read_bytes())
    encoded[5] = encoded[5][:40]
    layouts.dump(path, encoded)
    with pytest.raises(DataError, match=r"image .* of 'test .* is not a readable image"):
        prepare(TieredImageNet(root=str(tiered)).recipe, tiered)


def test_a_damaged_npz_is_named(tmp_path):
    layouts.tiered_npz(tmp_path)
    path = tmp_path / "tiered-imagenet" / "test_images.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedFile, match=r"test_images.npz is damaged"):
        prepare(TieredImageNet(root=str(tmp_path)).recipe, tmp_path)


def test_a_damaged_store_is_put_aside_and_made_anew(tmp_path):
    layouts.fc100(tmp_path)
    recipe = FC100(root=str(tmp_path)).recipe
    path = store_path(recipe, tmp_path)
    for damage in (
        lambda: (path / IMAGES).write_bytes((path / IMAGES).read_bytes()[:-5]),
        lambda: (path / INDEX).write_text("{"),
        lambda: (path / INDEX).write_text('{"schema": "binomctl/images/1", "name": "x"}'),
    ):
        prepare(recipe, tmp_path)
        damage()
        with pytest.raises(DamagedFile, match="is damaged"):
            open_store(path)
        store = prepare(recipe, tmp_path)
        assert verify(store, {}) == ([], [])
        assert path.with_name("fc100-32.quarantined").exists()
    (path / IMAGES).unlink()
    assert verify(prepare(recipe, tmp_path), {}) == ([], [])
    (path / INDEX).write_text(json.dumps({"schema": "binomctl/images/9"}))
    with pytest.raises(DataError, match="has schema 'binomctl/images/9'"):
        open_store(path)


def test_one_flipped_pixel_is_found_by_verify(tmp_path):
    layouts.fc100(tmp_path)
    store = prepare(FC100(root=str(tmp_path)).recipe, tmp_path)
    c = store.index.splits["validation"][2]
    with (store.path / IMAGES).open("r+b") as file:
        file.seek(np.load(store.path / IMAGES, mmap_mode="r").offset + c.start * 3072 + 17)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    broken, _ = verify(open_store(store.path), {})
    assert broken == [f"class '{c.name}' of split 'validation': its images are not those that were"
                      " prepared"]  # fmt: skip
    command = ["data", "verify", "fc100", "--root", str(tmp_path), "--partial"]
    done = in_a_process(*command)
    assert done.returncode == 3
    assert f"class '{c.name}'" in done.stderr


def test_a_full_disk_ends_with_6_and_what_was_converted_stays(tmp_path, monkeypatch):
    import errno

    from binomctl.images import convert as converting

    layouts.fc100(tmp_path)
    recipe = FC100(root=str(tmp_path)).recipe
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(converting.os, "fsync", full)
    with pytest.raises(ResourceError, match="no space left") as caught:
        prepare(recipe, tmp_path)
    assert caught.value.exit_code == 6
    monkeypatch.setattr(converting.os, "fsync", real)
    assert verify(prepare(recipe, tmp_path), {}) == ([], [])


@pytest.mark.promise(16, fault="too few classes, too few images of a class")
def test_too_few_classes_or_images_stop_before_the_first_step(tmp_path):
    layouts.fc100(tmp_path)
    at = ["--dataset", "fc100", "--root", str(tmp_path), "--out", str(tmp_path / "run")]
    for options, words in (
        (["--ways", "9"], "9-way tasks"),
        (["--ways", "7", "--set", "evaluation.queries=2"], "split 'validation' of fc100 has 6"),
        (["--shots", "6"], "6 shots + 15 queries = 21 images per class"),
    ):
        done = in_a_process("train", *at, *options)
        assert done.returncode == 3, done.stderr
        assert words in done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.promise(16, fault="a class in two splits")
def test_overlapping_splits_are_refused(tmp_path):
    layouts.folders(tmp_path, size=12)
    shutil.copytree(
        tmp_path / "train" / layouts.synset("train", 0), tmp_path / "test" / "n10000000"
    )
    with pytest.raises(DataError, match="'train' and 'test' share 1 class: n10000000"):
        prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path)
    (tmp_path / "test" / "n10000000").rename(tmp_path / "test" / "another name")
    with pytest.raises(DataError, match="the very same images"):
        prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path)


def test_numbers_that_every_split_starts_anew_are_not_the_same_class(tmp_path):
    for split, name in {"train": "train_phase_train", "validation": "val", "test": "test"}.items():
        x, labels = layouts.split_arrays(split)
        layouts.dump(
            tmp_path / f"miniImageNet_category_split_{name}.pickle", {"data": x, "labels": labels}
        )
    store = prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)
    assert store.index.splits["test"][0].name == "test 0"


def test_images_of_unequal_size_are_refused_unless_a_size_is_given(tmp_path):
    layouts.folders(tmp_path, size=12)
    odd = sorted((tmp_path / "train").rglob("*.png"))[30]
    Image.new("RGB", (9, 14)).save(odd)
    with pytest.raises(DataError, match=r"images differ in size: .* is 9x14, the first one 12x12"):
        prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path)
    store = prepare(ImageFolder(root=str(tmp_path), image_size=10).recipe, tmp_path)
    assert store.index.shape == (10, 10, 3)


def test_an_option_out_of_range_or_a_missing_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("BINOMCTL_DATA", raising=False)
    with pytest.raises(ConfigError, match="ways = 1"):
        FC100(ways=1)
    with pytest.raises(DataError, match=r"where are the files of fc100\?"):
        FC100().episode("train", 0)
    with pytest.raises(DataError, match="there is no folder"):
        prepare(FC100(root="nowhere").recipe, Path("nowhere"))


def test_a_disk_too_small_for_the_prepared_form_ends_with_6(tmp_path, monkeypatch):
    from binomctl.images import convert as converting

    layouts.fc100(tmp_path)
    monkeypatch.setattr(
        converting.shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(9, 9, 9)
    )
    with pytest.raises(ResourceError, match="its disk has 9 free"):
        prepare(FC100(root=str(tmp_path)).recipe, tmp_path)


@pytest.mark.promise(24, fault="source files that changed after preparing, classes of another size")
def test_verify_tells_sources_that_changed_and_classes_of_another_size(tmp_path):
    layouts.folders(tmp_path, size=12)
    recipe = ImageFolder(root=str(tmp_path)).recipe
    store = prepare(recipe, tmp_path)
    assert verify(store, {}, 20) == ([], [])
    _, differs = verify(store, {"train": (8, 160)}, 21)
    assert "has 20 images and 7 other classes, the published data set has 21" in differs[0]
    image = sorted((tmp_path / "train").rglob("*.png"))[0]
    Image.new("RGB", (12, 12)).save(image)
    broken, _ = verify(store, {})
    assert broken == [f"{tmp_path / 'train'} has changed since it was prepared"]


def test_images_that_are_programs_or_bombs_are_left_out(tmp_path):
    layouts.folders(tmp_path, size=12)
    victim = sorted((tmp_path / "val").rglob("*.png"))[3]
    whole = victim.read_bytes()
    huge = io.BytesIO()
    Image.new("1", (9000, 9000)).save(huge, "PNG")
    larger = io.BytesIO()
    Image.new("1", (20000, 20000)).save(larger, "PNG")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 12\n%%EndComments\nshowpage\n"
    for bad in (postscript, huge.getvalue(), larger.getvalue()):
        victim.write_bytes(bad)
        store = prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path)
        (line,) = store.index.left_out
        assert f"{victim} is not a readable image" in line
    victim.write_bytes(whole)
    assert not prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path).index.left_out
