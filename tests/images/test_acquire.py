"""Where the files of a data set come from, where nothing can be fetched."""

from __future__ import annotations

import sys

import pytest
from binomctl_datasets.fc100 import FC100
from binomctl_datasets.image_folder import ImageFolder
from binomctl_datasets.mini_imagenet import MiniImageNet

from binomctl.errors import DataError
from binomctl.files.download import Remote
from binomctl.images import acquire as acquiring
from binomctl.images.acquire import acquire
from binomctl.images.addresses import files_of


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


def test_learn2learn_is_not_needed_to_fetch(tmp_path, monkeypatch):
    def offline(remotes, mirrors):
        return [Remote(r.name, ("http://127.0.0.1:9/x",)) for r in remotes]

    monkeypatch.setitem(sys.modules, "learn2learn", None)
    monkeypatch.setattr(acquiring, "_with_mirrors", offline)
    with pytest.raises(DataError, match="cannot be reached"):
        acquire(FC100(root=str(tmp_path)).recipe, tmp_path, source="FC100")


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
def test_files_have_addresses(name, files):
    found = {r.name: r for r in files_of(name)}
    assert set(files) <= set(found)
    assert all(url.startswith("https://") for r in found.values() for url in r.urls)
    if name == "FullOmniglot":
        assert found[files[0]].md5 == "68d2efa1b9178cc56df9314c21c6e718"
        assert found[files[1]].md5 == "6b91aef0f799c5bb55b94e3f2daec811"
