"""The addresses of data sets' files still stand where they were taken from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from binomctl.errors import DataError
from binomctl.images.addresses import files_of, known
from binomctl.images.fewshot import FewShotImages
from binomctl.settings import registry

MODULES = {
    "MiniImagenet": "mini_imagenet",
    "TieredImagenet": "tiered_imagenet",
    "CIFARFS": "cifarfs",
    "FC100": "fc100",
}


def source_of(package: str, file: str) -> str:
    """The text of an installed package's file, which is not run."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: its addresses cannot be looked up")
    return Path(spec.origin).parent.joinpath(file).read_text()


def looked_for(url: str) -> str:
    """What of an address a source writes out: Google Drive's files are known by their id."""
    parts = urlsplit(url)
    return parse_qs(parts.query)["id"][0] if parts.netloc.startswith("drive.") else url


@pytest.mark.parametrize("name", MODULES)
def test_every_address_stands_in_learn2learn(name):
    text = source_of("learn2learn", f"vision/datasets/{MODULES[name]}.py")
    assert f"class {name}(" in text
    for remote in files_of(name):
        for url in remote.urls:
            assert f"'{looked_for(url)}'" in text, f"{remote.name}: {url}"


def test_omniglot_s_addresses_and_sums_stand_in_torchvision():
    assert "Omniglot" in source_of("learn2learn", "vision/datasets/full_omniglot.py")
    text = source_of("torchvision", "datasets/omniglot.py")
    for remote in files_of("FullOmniglot"):
        prefix, _, name = remote.urls[0].rpartition("/")
        assert f'"{prefix}"' in text
        assert f'"{name.removesuffix(".zip")}": "{remote.md5}"' in text
    assert 'zip_filename = filename + ".zip"' in text


def test_every_data_set_that_is_fetched_has_addresses():
    classes = [registry.load("dataset", name) for name in registry.names("dataset")]
    named = {getattr(cls, "learn2learn", "") for cls in classes if issubclass(cls, FewShotImages)}
    assert named - {""} == set(known())
    assert set(MODULES) | {"FullOmniglot"} == set(known())


def test_a_source_that_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(DataError, match=r"'MiniImageNet'\. Did you mean 'MiniImagenet'"):
        files_of("MiniImageNet")
