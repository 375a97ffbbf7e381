"""Data that is hostile, damaged or missing, networks that fail: a fault injected in each test."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import pickletools
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import layouts
import numpy as np
import pytest
from binomctl_datasets.cifar_fs import CIFARFS
from binomctl_datasets.fc100 import FC100
from binomctl_datasets.image_folder import ImageFolder
from binomctl_datasets.mini_imagenet import MiniImageNet
from binomctl_datasets.omniglot import Omniglot
from binomctl_datasets.tiered_imagenet import TieredImageNet
from PIL import Image

from binomctl.errors import (
    ConfigError,
    DamagedFile,
    DataError,
    MissingDependencyError,
    ResourceError,
)
from binomctl.images import acquire as acquiring
from binomctl.images import archives, download, learn2learn
from binomctl.images.acquire import acquire
from binomctl.images.archives import unpack
from binomctl.images.download import Remote, fetch
from binomctl.images.plain_values import Forbidden
from binomctl.images.prepare import prepare
from binomctl.images.recipe import store_path
from binomctl.images.store import IMAGES, INDEX, open_store, verify
from binomctl.images.unpickle import read_pickle

# Pickles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_read_as_python_reads_it(tmp_path, protocol):
    value = {
        "image_data": np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8),
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "swapped": np.arange(5, dtype=">i4"),
        "class_dict": OrderedDict([("n01", [0, 1]), ("n02", [2])]),
        "numbers": [0, -1, 255, 256, 70000, -(2**40), 2**100, 1.5, True, False, None],
        "text": ["", "é", "日本", "x" * 300],
        "bytes": [b"", b"\x00\xff", bytes(range(256)), b"y" * 2000, bytearray(b"z")],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "sets": [set(), {1, 2}, frozenset({3})],
        "scalars": [np.float32(1.5), np.int64(7), np.bool_(True)],
        "objects": np.array(["a", None, 3], object),
        "strings": np.array(["a", "bc"]),
    }
    value["again"] = value["image_data"]  # the same object twice
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    found = read_pickle(path).data
    assert list(found) == list(value)
    for key, wanted in value.items():
        if isinstance(wanted, np.ndarray):
            assert found[key].dtype == wanted.dtype
            assert np.array_equal(found[key], wanted)
        elif key == "bytes":
            assert [bytes(b) for b in found[key]] == [bytes(b) for b in wanted]
        else:
            assert found[key] == wanted
    assert found["again"] is found["image_data"]


def test_a_long_array_written_as_text_is_read_right(tmp_path):
    """What Python 3 makes of an array in protocol 2: text, to be encoded again."""
    big = np.random.default_rng(1).integers(0, 256, 6_000_001, np.uint8)
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"data": big}, 2))
    assert np.array_equal(read_pickle(path).data["data"], big)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


HOSTILE = {
    "global": lambda mark: Evil(mark),
    "in an array": lambda mark: np.array([Evil(mark)], object),
    "in a dictionary": lambda mark: {"image_data": Evil(mark), "class_dict": {}},
}
HANDMADE = {
    "eval": b"\x80\x02c__builtin__\neval\n(S'1'\ntR.",
    "getattr": b"\x80\x02cbuiltins\ngetattr\n(cos\nsystem\ntR.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "inst": b"(S'true'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'true'\no.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pid\n.",
    "a huge container": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "numpy's loader": b"\x80\x02cnumpy\nload\n(S'x'\ntR.",
    "a call of text": b"\x80\x02U\x02ab)R.",
    "a tuple as key": b"\x80\x02}K\x01K\x02\x86K\x03s.",
    "state for a list": b"\x80\x02]}b.",
    "structured arrays": b"\x80\x02cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR.",
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_malicious_pickle_runs_nothing(tmp_path, kind, protocol):
    mark, path = tmp_path / "mark", tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(pickle.dumps(HOSTILE[kind](mark), protocol))
    with pytest.raises(Forbidden, match=r"posix.system|a reference to") as caught:
        read_pickle(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 3
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # the attack is a real one
    assert mark.exists()


@pytest.mark.parametrize("name", HANDMADE)
def test_what_is_not_plain_data_is_forbidden(tmp_path, name):
    path = tmp_path / "x.pkl"
    path.write_bytes(HANDMADE[name])
    with pytest.raises(Forbidden):
        read_pickle(path)


def test_every_cut_and_every_flipped_byte_is_refused_or_plain(tmp_path):
    """Whatever the damage: a DataError, or data; never another exception, never code."""
    value = {"image_data": np.zeros((2, 2, 2, 3), np.uint8), "class_dict": {"a": [0], "b": [1]}}
    path = tmp_path / "x.pkl"
    for protocol in (0, 2, 4):
        whole = pickle.dumps(value, protocol)
        for cut in range(len(whole)):
            path.write_bytes(whole[:cut])
            with pytest.raises(DataError):
                read_pickle(path)
        for at in range(len(whole)):
            for flip in (0x01, 0x10, 0x80, 0xFF):
                damaged = bytearray(whole)
                damaged[at] ^= flip
                path.write_bytes(bytes(damaged))
                with contextlib.suppress(DataError):
                    read_pickle(path)


def test_opcodes_are_all_known_or_forbidden():
    """Every instruction of the format is either built here or refused by name."""
    from binomctl.images.pickle_machine import _FORBIDDEN, _TABLE

    published = {ord(op.code) for op in pickletools.opcodes} - {ord(".")}
    assert set(_TABLE) | _FORBIDDEN == published
    assert not set(_TABLE) & _FORBIDDEN


def test_a_malicious_data_set_from_the_command_line(tmp_path):
    mark = tmp_path / "mark"
    layouts.mini_learn2learn(tmp_path)
    evil = pickle.dumps({"image_data": Evil(mark), "class_dict": {}}, 4)
    (tmp_path / "mini-imagenet-cache-test.pkl").write_bytes(evil)
    for command in (
        ["data", "prepare", "mini-imagenet", "--root", str(tmp_path)],
        ["train", "--dataset", "mini-imagenet", "--root", str(tmp_path)],
        ["train", "--dataset", "learn2learn:mini-imagenet", "--root", str(tmp_path)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "binomctl", *command], capture_output=True, text=True
        )
        assert done.returncode == 3, done.stderr
        assert "mini-imagenet-cache-test.pkl" in done.stderr
        assert "Traceback" not in done.stderr
        assert not mark.exists()


def dag(levels: int, join: bytes = b"\x86") -> bytes:
    """A value that stands for 2^levels others."""
    return b"\x80\x02)" + (b"2" + join) * levels


EXPLOSIVE = {
    "a set of deep tuples": b"\x80\x04\x8f()" + b"\x85" * 10**5 + b"\x90.",
    "a set of wide tuples": b"\x80\x04\x8f(" + dag(45)[2:] + b"\x90.",
    "a frozenset of wide tuples": b"\x80\x04(" + dag(45)[2:] + b"\x91.",
    "a set by its constructor": b"\x80\x02cbuiltins\nset\n(" + dag(45)[2:] + b"\x85tR.",
    "a dict by its constructor": b"\x80\x02cbuiltins\ndict\n(](" + dag(45)[2:] + b"N\x86etR.",
    "a wide list as a type": b"\x80\x02cnumpy\ndtype\n(" + dag(45)[2:] + b"tR.",
    "a wide tuple as a module": dag(45) + b"\x8c\x01x\x93.",
    "copies without end": b"\x80\x02B"
    + (2**20).to_bytes(4, "little")
    + bytes(2**20)
    + b"q\x000"
    + b"cbuiltins\nbytearray\nq\x010"
    + b"h\x01h\x00\x85R" * 5000
    + b".",
    "a type like no other": b"\x80\x02cnumpy\ndtype\n(U\x06(,)i4(tR.",
}


@pytest.mark.parametrize("name", EXPLOSIVE)
def test_a_small_pickle_does_not_take_the_machine(tmp_path, name):
    """Run apart: what this guards against are segmentation faults, hangs and full memories."""
    path = tmp_path / "x.pkl"
    path.write_bytes(EXPLOSIVE[name])
    code = (
        "import resource, sys; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))\n"
        "from binomctl.errors import DataError\n"
        "from binomctl.images.unpickle import read_pickle\n"
        "try:\n    read_pickle(Path(sys.argv[1]))\n"
        "except DataError as error:\n    assert len(str(error)) < 500; sys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=20, capture_output=True)
    assert done.returncode == 3, done.stderr


def test_a_name_in_an_error_is_short_and_harmless(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02c\x1b[2J" + b"y" * 10**6 + b"\nx\n.")
    with pytest.raises(Forbidden) as caught:
        read_pickle(path)
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("value", [
    {"image_data": np.zeros((2, 4, 4, 3), np.uint8), "class_dict": {"a": ["q"], "b": [0]}},
    {"image_data": np.zeros((2, 4, 4, 3), np.uint8), "class_dict": {"a": None}},
    {"image_data": np.zeros((2, 4, 4, 3), np.uint8), "class_dict": {"a": 3}},
    {"image_data": np.zeros((2, 4, 4, 3), np.uint8), "class_dict": {"a": [0, 1], "b": [0, 1]}},
    {"data": np.zeros((2, 4, 4, 3), np.uint8), "labels": {"a": 1}},
    {"data": np.zeros((2, 4, 4, 3), np.uint8), "labels": [[1], [1, 2]]},
    {"data": np.zeros((2, 4, 4, 3), np.uint8), "labels": [1, "a"]},
    {"data": np.zeros((2, 4, 4, 3), np.uint8), "labels": 7},
])  # fmt: skip
def test_contents_of_another_kind_are_named(tmp_path, value):
    layouts.mini_learn2learn(tmp_path)
    path = tmp_path / "mini-imagenet-cache-test.pkl"
    layouts.dump(path, value)
    with pytest.raises(DataError) as caught:
        prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)
    assert str(path) in str(caught.value)


def test_images_that_are_programs_bombs_or_of_16_bits_are_refused(tmp_path):
    layouts.folders(tmp_path, size=12)
    victim = sorted((tmp_path / "val").rglob("*.png"))[3]
    whole = victim.read_bytes()
    deep = io.BytesIO()
    Image.fromarray(np.arange(144, dtype=np.uint16).reshape(12, 12) * 400).save(deep, "PNG")
    huge = io.BytesIO()
    Image.new("1", (9000, 9000)).save(huge, "PNG")
    larger = io.BytesIO()
    Image.new("1", (20000, 20000)).save(larger, "PNG")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 12\n%%EndComments\nshowpage\n"
    for bad in (postscript, deep.getvalue(), huge.getvalue(), larger.getvalue()):
        victim.write_bytes(bad)
        with pytest.raises(DamagedFile, match="is not a readable image") as caught:
            prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path)
        assert caught.value.path == victim
    victim.write_bytes(whole)
    prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path)


# Damaged files ----------------------------------------------------------------------------------


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
    with pytest.raises(DataError, match="is not a readable image") as caught:
        prepare(ImageFolder(root=str(tmp_path)).recipe, tmp_path)
    assert str(victim) in str(caught.value)
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
    done = subprocess.run(
        [sys.executable, "-m", "binomctl", *command], capture_output=True, text=True
    )
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


# Too little, or too much alike ------------------------------------------------------------------


def test_too_few_classes_or_images_stop_before_the_first_step(tmp_path):
    layouts.fc100(tmp_path)
    at = ["--dataset", "fc100", "--root", str(tmp_path), "--out", str(tmp_path / "run")]
    for options, words in (
        (["--ways", "9"], "9-way tasks"),
        (["--ways", "7", "--set", "evaluation.queries=2"], "split 'validation' of fc100 has 6"),
        (["--shots", "6"], "6 shots + 15 queries = 21 images per class"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "binomctl", "train", *at, *options],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert words in done.stderr
        assert not (tmp_path / "run").exists()


def test_overlapping_splits_are_refused(tmp_path):
    layouts.folders(tmp_path, size=12)
    shutil.copytree(
        tmp_path / "train" / layouts.synset("train", 0), tmp_path / "test" / "n10000000"
    )
    with pytest.raises(DataError, match="'train' and 'test' share 1 classes: n10000000"):
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


# Archives ---------------------------------------------------------------------------------------


def tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        data = b"x" if kind == tarfile.REGTYPE else b""
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def zip_with(path: Path, name: str, mode: int = 0o100644) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd" if mode & 0o170000 == 0o120000 else "x")


HOSTILE_ARCHIVES = {
    "dots.tar": lambda p: tar_with(p, "../out.txt"),
    "absolute.tar": lambda p: tar_with(p, "/tmp/binomctl-out.txt"),
    "deep.tar": lambda p: tar_with(p, "a/b/../../../out.txt"),
    "symlink.tar": lambda p: tar_with(p, "a", tarfile.SYMTYPE, "/etc/passwd"),
    "hardlink.tar": lambda p: tar_with(p, "a", tarfile.LNKTYPE, "../x"),
    "device.tar": lambda p: tar_with(p, "a", tarfile.CHRTYPE),
    "fifo.tar": lambda p: tar_with(p, "a", tarfile.FIFOTYPE),
    "dots.zip": lambda p: zip_with(p, "../out.txt"),
    "absolute.zip": lambda p: zip_with(p, "/tmp/binomctl-out.txt"),
    "symlink.zip": lambda p: zip_with(p, "a", 0o120777),
    "windows.zip": lambda p: zip_with(p, "..\\out.txt"),
}


@pytest.mark.parametrize("name", HOSTILE_ARCHIVES)
def test_a_hostile_archive_writes_nothing_outside(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    HOSTILE_ARCHIVES[name](inside / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedFile, match=r"leads out of the folder|a link or a device") as caught:
        unpack(inside / name, inside / "target")
    assert caught.value.exit_code == 3
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/binomctl-out.txt").exists()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_before_it_goes_off(tmp_path, kind):
    path = tmp_path / f"bomb.{kind}"
    zeros = bytes(200 * 2**20)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", zeros)
    else:
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("zeros")
            info.size = len(zeros)
            archive.addfile(info, io.BytesIO(zeros))
    assert path.stat().st_size < 2**20
    with pytest.raises(DamagedFile, match="for an archive of"):
        unpack(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p != path) == 0


def test_an_archive_that_lies_about_a_size_is_refused(tmp_path):
    """The directory of a zip says how long a file is; what comes out may be longer."""
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(5000))
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (10).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedFile):
        unpack(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_an_archive_larger_than_the_disk_ends_with_6(tmp_path, monkeypatch):
    layouts.mini_tar(tmp_path)
    monkeypatch.setattr(archives, "FREE_LEFT", 2**62)
    with pytest.raises(ResourceError, match="the disk has"):
        prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)


def test_a_disk_too_small_for_the_prepared_form_ends_with_6(tmp_path, monkeypatch):
    from binomctl.images import convert as converting

    layouts.fc100(tmp_path)
    monkeypatch.setattr(
        converting.shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(9, 9, 9)
    )
    with pytest.raises(ResourceError, match="its disk has 9 free"):
        prepare(FC100(root=str(tmp_path)).recipe, tmp_path)


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_tar_that_is_damaged_in_the_middle_is_refused(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    random = np.random.default_rng(0)
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
        for i in range(6):
            info = tarfile.TarInfo(f"f{i}")
            info.size = 60_000
            archive.addfile(info, io.BytesIO(random.bytes(60_000)))
    whole = path.read_bytes()
    damages = [whole[: len(whole) // 2]]
    if kind == "tar":
        header = 3 * (512 + 60_416)
        damages += [whole[:header], whole[:header] + b"\xff" * 400 + whole[header + 400 :]]
    else:
        middle = len(whole) // 2
        damages.append(whole[:middle] + bytes(400) + whole[middle + 400 :])
    for damage in damages:
        path.write_bytes(damage)
        with pytest.raises(DamagedFile, match="is damaged"):
            unpack(path, tmp_path / "target")
        assert not (tmp_path / "target").exists()
    path.write_bytes(whole)
    unpack(path, tmp_path / "target")
    assert len(list((tmp_path / "target").iterdir())) == 6


def test_a_name_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "x.tar.gz"
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf() + b"a" * 4096)
    with pytest.raises(DamagedFile, match="a name of 1,073,741,824 bytes"):
        unpack(path, tmp_path / "target")


@pytest.mark.parametrize("name", ["C:/Windows/x", "C:x", "C:\\Windows\\x"])
def test_a_drive_of_another_system_leads_out_too(tmp_path, name):
    tar_with(tmp_path / "x.tar", name)
    with pytest.raises(DamagedFile, match="leads out"):
        unpack(tmp_path / "x.tar", tmp_path / "target")


def test_damage_inside_an_archive_is_the_archive_s(server, tmp_path):
    fc100_on(server, tmp_path / "there")
    here = tmp_path / "here"
    here.mkdir()
    with zipfile.ZipFile(here / "fc100.zip", "w") as archive:
        for path in sorted((tmp_path / "there").iterdir()):
            data = path.read_bytes()
            archive.writestr(path.name, data[:-500] if "val" in path.name else data)
    recipe = FC100(root=str(here)).recipe
    with pytest.raises(DamagedFile) as caught:
        prepare(recipe, here)
    assert caught.value.path == here / "fc100.zip"
    acquire(recipe, here, source="FC100", mirrors=[server.url])
    assert (here / "fc100.zip.quarantined").exists()


def test_the_damaged_one_of_two_archives_is_named_wherever_the_store_goes(tmp_path):
    layouts.omniglot_zip(tmp_path / "data")
    archive = tmp_path / "data" / "omniglot-py" / "images_evaluation.zip"
    with zipfile.ZipFile(archive) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    files[sorted(files)[3]] = b"\x89PNG\r\n\x1a\n cut"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    recipe = Omniglot(root=str(tmp_path / "data")).recipe
    for to in (None, tmp_path / "elsewhere" / "store"):
        with pytest.raises(DamagedFile, match="is not a readable image") as caught:
            prepare(recipe, tmp_path / "data", to)
        assert caught.value.path == archive


def test_nothing_is_fetched_for_an_error_that_fetching_does_not_mend(server, tmp_path):
    layouts.folders(tmp_path, size=12)
    (tmp_path / "test" / "n10000000").mkdir()
    for path in (tmp_path / "train" / "n10000000").iterdir():
        shutil.copy(path, tmp_path / "test" / "n10000000")
    with pytest.raises(DataError, match="share 1 classes"):
        acquire(MiniImageNet(root=str(tmp_path)).recipe, tmp_path, source="MiniImagenet",
                mirrors=[server.url])  # fmt: skip
    assert not server.requests


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
    run = [sys.executable, "-m", "binomctl"]
    assert subprocess.run([*run, *train], capture_output=True).returncode == 0
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run([*run, *evaluate], capture_output=True, cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    (tmp_path / "data").rename(tmp_path / "moved")
    assert subprocess.run([*run, *evaluate], capture_output=True).returncode == 3
    done = subprocess.run([*run, *evaluate, "--root", "moved"], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_names_of_folders_are_neither_markup_nor_mathematics(tmp_path):
    root = tmp_path / "we[/ird]"
    layouts.folders(root, size=12)
    for c in list((root / "train").iterdir())[:3]:
        c.rename(c.with_name(f"cost$_{{{c.name[-1]}$ x^^"))
    run = [sys.executable, "-m", "binomctl", "data"]
    at = ["image-folder", "--root", str(root)]
    picture = str(tmp_path / "x.png")
    for command in (["list", "--root", str(root)], ["prepare", *at], ["verify", *at],
                    ["show", *at, "-o", picture]):  # fmt: skip
        done = subprocess.run([*run, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_cut_archive_is_named(tmp_path):
    layouts.mini_tar(tmp_path)
    path = tmp_path / "mini-imagenet.tar.gz"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DamagedFile, match=r"mini-imagenet.tar.gz is damaged"):
        prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)


# Networks ---------------------------------------------------------------------------------------


class Server:
    """A loopback web server whose answers a test scripts: by path, a list of behaviours in turn."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.answer(self)

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        self.stop = threading.Event()
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.stop.set()
        self.httpd.shutdown()
        self.httpd.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.requests.append((request.path, wanted))
        name = request.path.strip("/")
        turns = self.script.get(name, [])
        how = turns.pop(0) if turns else "whole"
        body = self.files.get(name)
        if body is None or how == "404":
            request.send_error(404)
            return
        if how == "503":
            request.send_error(503)
            return
        kind = "application/octet-stream"
        if how == "html":
            body, kind = b"<!DOCTYPE html><p>Too many users have viewed this file", "text/html"
        if how == "disguised html":
            body = b"<html><p>Sign in"
        if how == "flipped":
            body = bytes([body[0] ^ 1]) + body[1:]
        start = 0
        tag = f'"{hashlib.md5(self.files[name]).hexdigest()}"'
        if wanted and request.headers.get("If-Range") == tag and how != "no ranges":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            request.send_response(206)
            first = start + 7 if how == "another part" else start
            request.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        request.send_header("Content-Type", kind)
        if how != "no length":
            request.send_header("Content-Length", str(len(body) - start))
        request.send_header("ETag", tag)
        request.end_headers()
        part = body[start:]
        if how in ("cut", "stalled"):
            request.wfile.write(part[: len(part) // 2])
            request.wfile.flush()
            if how == "stalled":
                self.stop.wait(20)
            request.close_connection = True
            return
        request.wfile.write(part)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


BODY = np.random.default_rng(3).bytes(300_000)


def remote(server: Server, **more) -> Remote:
    server.files.setdefault("x.bin", BODY)
    return Remote("sub/x.bin", (f"{server.url}/x.bin",), **more)


def nothing_final(root: Path) -> None:
    assert not (root / "sub" / "x.bin").exists()


def test_a_file_is_fetched_whole_and_once(server, tmp_path):
    seen = []
    file = remote(server, md5=hashlib.md5(BODY).hexdigest())
    path = fetch(file, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    fetch(file, tmp_path)
    assert len(server.requests) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["x.bin"]


def test_a_cut_download_is_resumed(server, tmp_path):
    server.script["x.bin"] = ["cut"]
    path = fetch(remote(server), tmp_path)
    assert path.read_bytes() == BODY
    assert server.requests[1][1] == f"bytes={2 * download.BLOCK}-"  # of 150,000 that came


def test_what_arrived_is_kept_for_the_next_run(server, tmp_path):
    server.script["x.bin"] = ["cut", "cut"]
    with pytest.raises(DataError, match=r"the connection was cut|cut off") as caught:
        fetch(remote(server), tmp_path)
    assert caught.value.exit_code == 3
    nothing_final(tmp_path)
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert server.requests[2][1] == f"bytes={3 * download.BLOCK}-"


def test_a_server_that_cannot_resume_sends_all_again(server, tmp_path):
    server.script["x.bin"] = ["cut", "no ranges"]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_another_part_than_was_asked_for_is_not_put_behind_it(server, tmp_path):
    server.script["x.bin"] = ["cut", "another part"]
    with pytest.raises(DataError, match="another part than was asked for"):
        fetch(remote(server), tmp_path)
    nothing_final(tmp_path)
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_an_answer_without_an_end_is_not_trusted(server, tmp_path):
    server.script["x.bin"] = ["no length", "no length"]
    with pytest.raises(DataError, match="does not say how long"):
        fetch(remote(server), tmp_path)
    nothing_final(tmp_path)
    known = remote(server, md5=hashlib.md5(BODY).hexdigest())
    assert fetch(known, tmp_path).read_bytes() == BODY


def test_a_file_that_changed_meanwhile_is_not_patched_together(server, tmp_path):
    server.script["x.bin"] = ["cut", "cut"]
    with pytest.raises(DataError):
        fetch(remote(server), tmp_path)
    server.files["x.bin"] = BODY[::-1]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY[::-1]


def test_a_stalled_download_is_given_up(server, tmp_path):
    server.script["x.bin"] = ["stalled", "stalled"]
    begin = time.monotonic()
    with pytest.raises(DataError, match="stalled"):
        fetch(remote(server), tmp_path, stall=0.5)
    assert time.monotonic() - begin < 10
    nothing_final(tmp_path)


@pytest.mark.parametrize(
    ("script", "words", "requests"),
    [
        (["404"], "HTTP 404", 1),
        (["503", "503"], "HTTP 503", 2),
        (["html"], "a web page instead of the file", 1),
        (["disguised html"], "a web page instead of the file", 1),
        (["flipped", "flipped"], "md5 .*, expected", 2),
    ],
)
def test_a_wrong_answer_is_named_and_never_kept(server, tmp_path, script, words, requests):
    server.script["x.bin"] = list(script)
    with pytest.raises(DataError, match=words) as caught:
        fetch(remote(server, md5=hashlib.md5(BODY).hexdigest()), tmp_path)
    assert f"{server.url}/x.bin" in str(caught.value)
    nothing_final(tmp_path)
    assert len(server.requests) == requests


@pytest.mark.parametrize("passing", ["503", "flipped"])
def test_a_passing_fault_is_tried_again(server, tmp_path, passing):
    server.script["x.bin"] = [passing]
    path = fetch(remote(server, md5=hashlib.md5(BODY).hexdigest()), tmp_path)
    assert path.read_bytes() == BODY


def test_the_next_address_is_asked(server, tmp_path):
    file = remote(server)
    file = Remote(file.name, (f"{server.url}/gone", *file.urls))
    assert fetch(file, tmp_path).read_bytes() == BODY


def fc100_on(server: Server, folder: Path) -> None:
    layouts.fc100(folder)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    server.files["fc100.zip"] = packed.getvalue()


def test_prepare_fetches_what_learn2learn_would(server, tmp_path):
    """--mirror stands before learn2learn's own addresses, which no test can reach."""
    fc100_on(server, tmp_path / "there")
    server.script["fc100.zip"] = ["cut"]
    command = ["data", "prepare", "fc100", "--root", str(tmp_path / "here"), "--mirror", server.url,
               "--json"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "binomctl", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["splits"]["train"]["classes"] == 8
    assert result["sources"][0]["file"].endswith("fc100.zip")
    assert result["sources"][0]["sha256"] == hashlib.sha256(server.files["fc100.zip"]).hexdigest()
    assert "fetching fc100.zip" in done.stderr
    here = sorted(p.name for p in (tmp_path / "here").iterdir())
    assert here == ["fc100.zip", "prepared"]


def test_a_damaged_file_is_put_aside_and_fetched_once_more(server, tmp_path):
    fc100_on(server, tmp_path / "there")
    here = tmp_path / "here"
    here.mkdir()
    (here / "fc100.zip").write_bytes(server.files["fc100.zip"][:-300])
    told: list[str] = []
    recipe = FC100(root=str(here)).recipe
    acquire(recipe, here, source="FC100", mirrors=[server.url], tell=told.append)
    assert (here / "fc100.zip.quarantined").exists()
    assert any("put aside" in line for line in told)

    # The second copy is damaged too: then it is the end.
    shutil.rmtree(here)
    server.files["fc100.zip"] = server.files["fc100.zip"][:-300]
    with pytest.raises(DataError) as caught:
        acquire(recipe, here, source="FC100", mirrors=[server.url], tell=told.append)
    assert caught.value.exit_code == 3
    assert len([p for p, _ in server.requests if p == "/fc100.zip"]) == 3


def test_without_a_network_it_says_which_file_goes_where(tmp_path, monkeypatch):
    def offline(remotes, mirrors):
        return [Remote(r.name, ("http://127.0.0.1:9/x",)) for r in remotes]

    monkeypatch.setattr(acquiring, "_with_mirrors", offline)
    with pytest.raises(DataError, match="cannot be reached") as caught:
        acquire(MiniImageNet(root=str(tmp_path)).recipe, tmp_path, source="MiniImagenet")
    for split in ("train", "validation", "test"):
        assert str(tmp_path / f"mini-imagenet-cache-{split}.pkl") in caught.value.hint


def test_a_data_set_that_nobody_knows_a_source_of(tmp_path):
    with pytest.raises(DataError, match="no image-folder in a known layout") as caught:
        acquire(ImageFolder(root=str(tmp_path)).recipe, tmp_path)
    assert "Nobody says where" in caught.value.hint


def test_without_learn2learn_the_install_line_is_shown(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    with pytest.raises(MissingDependencyError, match="learn2learn cannot be loaded") as caught:
        acquire(FC100(root=str(tmp_path)).recipe, tmp_path, source="FC100")
    assert caught.value.exit_code == 7
    assert 'learn2learn==0.2.0 --config-settings="--build-option=build_ext"' in caught.value.hint


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("MiniImagenet", ["mini-imagenet-cache-test.pkl"]),
        ("TieredImagenet", ["tiered-imagenet/train_images_png.pkl"]),
        ("FC100", ["fc100.zip"]),
        ("CIFARFS", ["cifarfs.zip"]),
        (
            "FullOmniglot",
            ["omniglot-py/images_background.zip", "omniglot-py/images_evaluation.zip"],
        ),
    ],
)
def test_learn2learn_says_what_it_would_fetch_and_fetches_nothing(monkeypatch, name, files):
    import socket

    monkeypatch.setattr(socket, "create_connection", pytest.fail)
    found = {r.name: r for r in learn2learn.files_of(name)}
    assert set(files) <= set(found)
    assert all(url.startswith("https://") for r in found.values() for url in r.urls)
    if name == "FullOmniglot":
        assert found[files[0]].md5 == "68d2efa1b9178cc56df9314c21c6e718"
        assert found[files[1]].md5 == "6b91aef0f799c5bb55b94e3f2daec811"


def test_is_html():
    assert download.is_html(b"\n <!DOCTYPE HTML>")
    assert not download.is_html(b"\x80\x02}q\x00")
