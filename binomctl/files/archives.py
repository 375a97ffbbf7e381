"""Unpacks archives of data sets: nothing lands outside the target, nothing fills the disk."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from binomctl.errors import BinomctlError, DamagedFile, ResourceError

MAX_RATIO = 200  # unpacked over packed; PNG and pickled pixels stay below 4
MAX_FILES = 1_000_000  # tieredImageNet has 779,165 images
# Making a file costs as much as writing thousands of bytes: hundreds of thousands of empty ones are
# a bomb too. Omniglot's drawings, the smallest there are, have 150 bytes and more.
MANY, MEAN_BYTES = 10_000, 64
FREE_LEFT = 256 * 2**20  # bytes of the disk that unpacking leaves alone
LONGEST_NAME = 2**16
_BLOCK = 4 * 2**20


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    is_folder: bool
    is_plain: bool
    open: Callable[[], Any]
    """Its contents as a binary file; of plain files alone."""


def unpack(archive: Path, target: Path) -> None:
    """Unpack a .zip, .tar, .tar.gz, .tgz or .tar.bz2 into `target`, which must not exist yet.

    All names and sizes are checked before the first byte is written; the contents are written
    into a folder beside the target that takes its name when all are there.

    Raises:
        DataError: the archive is damaged, or holds a name that leads out of the target, a link or
            a device, or far more data than its size can mean.
        ResourceError: the disk has no room for it.
    """
    beside = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        if not zipfile.is_zipfile(archive):
            _read_through(archive)
        _check(archive, beside.parent)
        beside.mkdir(parents=True)
        for entry in _entries(archive):
            path = beside / PurePosixPath(entry.name)
            if entry.is_folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                _copy(entry, file, archive)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"no space left on the disk while unpacking {archive}", "Free some space."
            ) from error
        if isinstance(error, BinomctlError) or not isinstance(error, Exception):
            raise
        raise DamagedFile(  # encrypted, an unknown compression, a broken header or stream, ...
            f"{archive} is damaged or no archive at all: {str(error)[:200]}",
            "Fetch it again.",
            archive,
        ) from error
    os.replace(beside, target)


def _check(archive: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    limit = MAX_RATIO * max(archive.stat().st_size, 2**16)
    free = shutil.disk_usage(target).free - FREE_LEFT
    total = 0
    for count, member in enumerate(_entries(archive), 1):
        parts = PurePosixPath(member.name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in member.name or "\\" in member.name:
            raise _refused(archive, f"'{member.name}', a name that leads out of the folder")
        if not member.is_plain:
            raise _refused(archive, f"'{member.name}', a link or a device")
        total += member.size
        if count % MANY == 0 and total < MEAN_BYTES * count:
            raise _refused(
                archive,
                f"{count:,} files and folders or more, of {total:,} bytes altogether",
            )
        if total > limit or count > MAX_FILES:
            raise _refused(
                archive,
                f"{total:,} bytes in {count:,} files or more, for an archive of"
                f" {archive.stat().st_size:,} bytes",
            )
        if total > free:
            raise ResourceError(
                f"unpacking {archive} takes {total:,} bytes or more, the disk has {free:,} free",
                "Free some space, or give another folder with --to.",
            )


def _read_through(archive: Path) -> None:
    """Read a tar from end to end: tarfile stops at the first header it cannot read, and at the end
    mark without the checksum of the compressed stream behind it; and it reads headers that announce
    long names whole, however long they say they are."""
    with _stream(archive) as stream:
        ended = False
        while header := stream.read(512):
            if len(header) < 512:
                raise EOFError("it ends in the middle of a header")
            if not header.strip(b"\0"):
                ended = True
                break
            size = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size
            if header[156:157] in (b"L", b"K", b"x", b"g") and size > LONGEST_NAME:
                raise _refused(archive, f"a name of {size:,} bytes")
            left = -(-size // 512) * 512
            if archive.suffix == ".tar" and left > _BLOCK:  # what is not compressed has no checksum
                stream.seek(left - 1, os.SEEK_CUR)
                left = 1
            while left:
                block = stream.read(min(_BLOCK, left))
                if not block:
                    raise EOFError("it ends in the middle of a file")
                left -= len(block)
        if not ended:
            raise EOFError("its end mark is missing")
        while stream.read(_BLOCK):  # the checksum stands at the very end
            pass


def _stream(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(archive))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(archive))
    return cast(IO[bytes], lzma.open(archive)) if start == b"\xfd7zXZ\0" else archive.open("rb")


def _refused(archive: Path, what: str) -> DamagedFile:
    return DamagedFile(
        f"{archive} holds {what}: no archive of images does",
        "Nothing of it was unpacked. Fetch it from a source you trust.",
        archive,
    )


def _entries(archive: Path) -> Iterator[_Entry]:
    """What is in a zip or a tar, in its order; an entry can be opened until the next is taken."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                # The upper half of a Unix entry's attributes is its mode; 0o120000 is a link.
                kind = (info.external_attr >> 16) & 0o170000
                plain = kind in (0, 0o040000, 0o100000)
                read = partial(packed.open, info)
                yield _Entry(info.filename, info.file_size, info.is_dir(), plain, read)
    else:
        with tarfile.open(archive) as unpacked:
            for item in unpacked:
                plain = (item.isreg() or item.isdir()) and not item.issparse()
                extract = partial(unpacked.extractfile, item)
                yield _Entry(item.name, item.size, item.isdir(), plain, extract)


def _copy(entry: _Entry, file: IO[bytes], archive: Path) -> None:
    """Copy what the archive said there is, and not one byte more."""
    left = entry.size
    with entry.open() as stream:
        while block := stream.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise _refused(archive, f"'{entry.name}', which is longer than it says")
            file.write(block)
    if left:
        raise EOFError(f"'{entry.name}' ends in the middle")
