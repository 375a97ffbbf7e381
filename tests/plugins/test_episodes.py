"""Episodes are pure in (seed, split, index), on any process; class splits are disjoint."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from binomctl_datasets import glyphs
from binomctl_datasets.glyphs import Glyphs
from binomctl_datasets.sinusoid import Sinusoid

from binomctl.errors import DataError

HASHES = """
import hashlib
from binomctl_datasets.glyphs import Glyphs
from binomctl_datasets.sinusoid import Sinusoid
for cls in (Glyphs, Sinusoid):
    for index in {order}:
        e = cls(seed=5).episode("test", index)
        digest = hashlib.sha256()
        for t in (e.x_trn, e.y_trn, e.x_val, e.y_val):
            digest.update(t.contiguous().numpy().tobytes())
        print(cls.__name__, index, digest.hexdigest())
"""


def test_other_processes_and_orders_give_the_same_episodes():
    outputs = []
    for order in ([0, 1, 7], [7, 0, 1]):
        code = HASHES.format(order=order)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(sorted(done.stdout.splitlines()))
    assert outputs[0] == outputs[1]
    assert len({line.split()[2] for line in outputs[0]}) == 6


def test_seed_and_split_change_the_episode():
    first = Sinusoid(seed=0).episode("train", 0).x_trn
    assert not torch.equal(first, Sinusoid(seed=1).episode("train", 0).x_trn)
    assert not torch.equal(first, Sinusoid(seed=0).episode("test", 0).x_trn)


def test_glyph_splits_share_no_class_and_no_picture():
    classes = glyphs._load(28)
    drawings = {s: {c.images[0].tobytes() for c in classes[s]} for s in classes}
    assert len(classes["train"]) > 300
    assert len(classes["test"]) > 100
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not drawings[a] & drawings[b]
    scripts = [set(s) for s in glyphs.SCRIPTS.values()]
    assert not set.intersection(*scripts)


def test_letters_have_the_names_of_unicode():
    data = Glyphs(augment=False)
    for i in range(5):
        names, episode = data.class_names("test", i), data.episode("test", i)
        letters = {c.name: c.images for c in glyphs._load(28)["test"]}
        for name, image in zip(names, episode.x_trn, strict=True):
            assert name.split()[0] in ("ARMENIAN", "GEORGIAN")
            assert any(np.array_equal(image[0], face) for face in letters[name])


def test_support_and_query_are_different_faces():
    episode = Glyphs(augment=False).episode("test", 3)
    support = {x.numpy().tobytes() for x in episode.x_trn}
    assert episode.x_trn.shape == (5, 1, 28, 28)
    assert episode.x_val.shape == (55, 1, 28, 28)
    assert not support & {x.numpy().tobytes() for x in episode.x_val}
    assert episode.x_trn.dtype == torch.uint8
    assert 0 == episode.x_trn.min() < episode.x_trn.max() == 255


def test_the_cache_is_believed_only_when_whole(tmp_path):
    path = tmp_path / "g.npz"
    classes = {
        s: [glyphs.Letter(f"letter {i}", np.full((12, 8, 8), i, np.uint8))]
        for i, s in enumerate(glyphs.SCRIPTS)
    }
    glyphs._write_cache(path, classes)
    read = glyphs._read_cache(path)
    assert all(np.array_equal(read[s][0].images, classes[s][0].images) for s in classes)
    assert [read[s][0].name for s in classes] == ["letter 0", "letter 1", "letter 2"]
    path.write_bytes(path.read_bytes()[:-40])
    assert glyphs._read_cache(path) is None


def test_too_many_ways_or_shots_are_a_data_error():
    with pytest.raises(DataError, match="500 classes"):
        Glyphs(ways=500).episode("train", 0)
    with pytest.raises(DataError, match="images per class"):
        Glyphs(shots=17).episode("train", 0)
    with pytest.raises(DataError, match=r"0 classes have so many.*up to 12"):
        Glyphs(shots=12).episode("test", 0)


def test_many_images_leave_the_classes_that_have_them():
    episode = Glyphs(shots=1, queries=15).episode("train", 0)
    assert episode.x_val.shape == (75, 1, 28, 28)
