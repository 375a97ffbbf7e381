"""What a layout on disk holds, whatever it looks like: classes by split, and their images."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from binomctl.errors import DamagedFile, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# By content, Pillow would also run PostScript; these are pictures and nothing else.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_PIXELS = 50_000_000
SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm",
    ".pgm",
}  # fmt: skip


class Missing(DataError):
    """A layout is not there, or not all of it."""


@dataclass(frozen=True)
class Cropped:
    """The part of a file's picture in a box: left, upper, right, lower, in pixels from 0."""

    path: Path
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class SourceClass:
    """A class as it lies on disk. images[i] is a path or part of its picture, an encoded image
    (bytes, or uint8 [n] or [n, 1]) or its pixels (uint8 [H, W] or [H, W, C]); `where`: the file or
    folder, for messages."""

    name: str
    images: Sequence[Any]
    where: Path


@dataclass(frozen=True)
class Source:
    """Images in one of the known layouts.

    files: what was read; bgr: pixels come blue first; release: gives memory back between classes.
    """

    layout: str
    splits: Mapping[str, Sequence[SourceClass]]
    files: Sequence[Path]
    bgr: bool = False
    release: Callable[[], None] = lambda: None


class Layout(Protocol):
    """A way to keep a data set on disk."""

    def find(self, root: Path) -> Source | None:
        """The data set in this layout under a folder, None when it is not there.

        Raises:
            DataError: it is there but damaged or incomplete.
        """
        ...


@dataclass(frozen=True)
class Rows(Sequence[Any]):
    """Some rows of an array or a list, none of them copied."""

    array: Any
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: Any) -> Any:
        return self.array[self.rows[i]]


@dataclass(frozen=True)
class Shape:
    """What every image is made into: "RGB" or "L", size x size; None: as they are, all equal."""

    mode: str
    size: int | None
    invert: bool = False

    @property
    def channels(self) -> int:
        return 3 if self.mode == "RGB" else 1


def pixels(owner: SourceClass, i: int, shape: Shape, bgr: bool) -> NDArray[np.uint8]:
    """Image i of a class as uint8 [H, W, C].

    Raises:
        DataError: the image cannot be decoded, named with its place.
    """
    from PIL.Image import fromarray
    from PIL.Image import open as read
    from PIL.ImageOps import exif_transpose

    raw = owner.images[i]
    try:
        if isinstance(raw, np.ndarray) and raw.ndim == 3 and raw.shape[-1] != 1:
            array = _rgb(raw, bgr)
            if (
                shape.size in (None, raw.shape[0])
                and raw.shape[0] == raw.shape[1]
                and (shape.mode == "RGB" and not shape.invert)
            ):
                return array
            image = fromarray(array)
        elif isinstance(raw, np.ndarray) and raw.ndim >= 2 and raw.shape[1] > 1:
            image = fromarray(np.ascontiguousarray(raw.reshape(raw.shape[:2]), np.uint8))
        elif (file := file_of(raw)) is not None:
            image = read(file, formats=FORMATS)
        elif isinstance(raw, bytes | memoryview) or (
            isinstance(raw, np.ndarray) and raw.dtype == np.uint8
        ):
            image = read(io.BytesIO(bytes(raw)), formats=FORMATS)
        else:
            raise TypeError(f"a {type(raw).__name__} is no image")
        with image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels")
            # A camera writes down how it was held; the pixels are as its sensor lay.
            exif_transpose(image, in_place=True)
            part = image.crop(raw.box) if isinstance(raw, Cropped) else image
            out = as_array(eight_bits(part), shape.mode, shape.size)
    except Exception as error:  # decoders fail in many ways
        raise DamagedFile(
            f"{place(owner, i)} is not a readable image ({str(error)[:200]})",
            "Fetch it again, or take it out of the data set.",
            file_of(raw) or owner.where,
        ) from error
    return 255 - out if shape.invert else out


def eight_bits(image: Image) -> Image:
    """A picture of any mode as one of bytes without transparency; of an animation the first.

    16 bits become 8 by rounding; what is transparent lies on white.

    Raises:
        ValueError: floating or 32-bit pixels, whose range nobody knows.
    """
    from PIL.Image import alpha_composite, fromarray, new

    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"mode {image.mode}: pixels of {values.min()} to {values.max()}")
        return fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("mode F: floating pixels, whose range nobody knows")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        return alpha_composite(new("RGBA", over.size, "white"), over)
    return image


def as_array(image: Image, mode: str, size: int | None) -> NDArray[np.uint8]:
    """A picture in a mode as uint8 [H, W, C], brought to size x size where one is given."""
    from PIL.Image import Resampling

    converted = image.convert(mode)
    if size is not None and converted.size != (size, size):
        converted = converted.resize((size, size), Resampling.LANCZOS)
    out = np.array(converted, np.uint8)
    return out[:, :, None] if out.ndim == 2 else out


def place(owner: SourceClass, i: int) -> str:
    """Where an image is, in words."""
    file = file_of(owner.images[i])
    return f"{owner.where}: image {i} of '{owner.name}'" if file is None else str(file)


def file_of(image: Any) -> Path | None:
    """The file that an image of a class is, or is cut from; None where it is in a larger one."""
    return image.path if isinstance(image, Cropped) else image if isinstance(image, Path) else None


def _rgb(raw: NDArray[Any], bgr: bool) -> NDArray[np.uint8]:
    if raw.dtype != np.uint8 or raw.shape[-1] != 3:
        raise ValueError(f"{raw.dtype} {list(raw.shape)}, expected uint8 [H, W, 3]")
    return np.ascontiguousarray(raw[..., ::-1] if bgr else raw)


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, by name; hidden files and other kinds are passed over."""
    found = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    inner = folder / "images"  # <class>/images/*, as Tiny ImageNet has it
    return images_in(inner) if not found and inner.is_dir() else found


def class_folders(folder: Path) -> list[SourceClass]:
    """The sub-folders that have images, each a class, by name."""
    found = [
        SourceClass(p.name, images_in(p), p)
        for p in sorted(folder.iterdir())
        if p.is_dir() and not p.name.startswith(".")
    ]
    return [c for c in found if len(c.images)]


def places_to_look(root: Path, names: Sequence[str]) -> list[Path]:
    """The folder itself and those of its sub-folders (two deep) that are named so."""
    found = [root]
    for name in names:
        found += [p for p in (root / name, *root.glob(f"*/{name}")) if p.is_dir()]
    return list(dict.fromkeys(found))
