"""Pickles: read as Python reads plain ones, refused where they are hostile or cut."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import layouts
import numpy as np
import pytest
from binomctl_datasets.mini_imagenet import MiniImageNet
from command import in_a_process

from binomctl.errors import (
    DataError,
)
from binomctl.files.pickles.plain_values import Forbidden
from binomctl.files.pickles.unpickle import read_pickle
from binomctl.images.prepare import prepare

pytestmark = pytest.mark.promise(5, fault="hostile and malformed pickles")


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
    from binomctl.files.pickles.machine import _FORBIDDEN, _TABLE

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
        done = in_a_process(*command)
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
        "from binomctl.files.pickles.unpickle import read_pickle\n"
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
