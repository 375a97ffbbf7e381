"""Arrays of images: one of an .npz mapped into memory, and the check that it holds images."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from binomctl.errors import DamagedFile, DataError, ResourceError
from binomctl.files.archives import MAX_RATIO
from binomctl.files.atomic import disk_full


def member(path: Path, name: str) -> Any:
    """An array of an .npz, mapped where it lies uncompressed; written to a temporary file without
    a name and mapped from there otherwise."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.file_size > MAX_RATIO * max(info.compress_size, 2**16):
                raise ValueError(f"{info.compress_size:,} bytes become {info.file_size:,}")
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
                shape, fortran, dtype = read(stream)
                if dtype != np.uint8:
                    raise ValueError(f"values of type {dtype}")
                header = stream.tell()
                if info.compress_type != zipfile.ZIP_STORED:
                    order: Any = "F" if fortran else "C"
                    with disk_full(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as kept:
                        shutil.copyfileobj(stream, kept, 2**22)
                        kept.flush()  # the map keeps the file alive
                        return checked_images(np.memmap(kept, dtype, "r", 0, shape, order), path)
        # The local header's name and extra field may differ in length from the directory's.
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
            start = info.header_offset + 30 + int(lengths.sum()) + header
        order = "F" if fortran else "C"
        return checked_images(np.memmap(path, dtype, "r", start, shape, order), path)
    except ResourceError:
        raise
    except Exception as error:  # headers of arrays and archives fail in many ways
        raise DamagedFile(
            f"{path} is damaged or has no array '{name}' ({str(error)[:200]})",
            "Fetch it again.",
            path,
        ) from error


def checked_images(images: Any, path: Path) -> Any:
    """The same, if it is uint8 [N, H, W, 3]; DataError otherwise."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        what = (
            f"{images.dtype} {list(images.shape)}"
            if isinstance(images, np.ndarray)
            else (type(images).__name__)
        )
        raise DataError(f"{path}: the images are {what}, expected uint8 [N, H, W, 3]")
    return images
