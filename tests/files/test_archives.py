"""Archives: hostile, damaged, too large, and what is damaged in them."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
import zipfile
from pathlib import Path

import layouts
import numpy as np
import pytest
from binomctl_datasets.mini_imagenet import MiniImageNet
from binomctl_datasets.omniglot import Omniglot

from binomctl.errors import (
    DamagedFile,
    ResourceError,
)
from binomctl.files import archives
from binomctl.files.archives import unpack
from binomctl.images.prepare import prepare

pytestmark = pytest.mark.promise(
    14, fault="archives with ../, absolute names, links, bombs, damage"
)


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


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_of_empty_files_is_refused_before_one_is_made(tmp_path, kind):
    path = tmp_path / f"empty.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for i in range(20_000):
                archive.writestr(f"{i}.png", b"")
    else:
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for i in range(20_000):
                archive.addfile(tarfile.TarInfo(f"{i}.png"))
    begun = time.monotonic()
    with pytest.raises(DamagedFile, match="10,000 files and folders or more, of 0 bytes"):
        unpack(path, tmp_path / "target")
    assert time.monotonic() - begun < 5
    assert list(tmp_path.iterdir()) == [path]


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


def test_a_cut_archive_is_named(tmp_path):
    layouts.mini_tar(tmp_path)
    path = tmp_path / "mini-imagenet.tar.gz"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DamagedFile, match=r"mini-imagenet.tar.gz is damaged"):
        prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)
