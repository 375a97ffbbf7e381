"""Glyphs: few-shot recognition of letters in real typefaces, with unseen alphabets held out.

The 16 text faces of DejaVu (Sans, Sans Mono, Serif) and STIX General that ship with matplotlib
cover Latin, Cyrillic, Greek, Armenian and Georgian. Every letter or digit that has no Unicode
decomposition and that at least 12 of those faces contain is a class; its faces are the examples.
Splitting by script makes the test a transfer to alphabets never seen in training, as Omniglot's
split does, with nothing to download.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import platformdirs
from numpy.typing import NDArray

from binomctl.episodes import Episode, check_split, generator
from binomctl.errors import DataError
from binomctl.images import sampling
from binomctl.images.classification import Classification
from binomctl.options import at_least, option, plugin

FACES = tuple(
    f"{family}{style}.ttf"
    for family, styles in {
        "DejaVuSans": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "DejaVuSansMono": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "DejaVuSerif": ("", "-Bold", "-Italic", "-BoldItalic"),
        "STIXGeneral": ("", "Bol", "Italic", "BolIta"),
    }.items()
    for style in styles
)
MIN_FACES = 12
SCRIPTS = {
    "train": ("LATIN", "CYRILLIC", "DIGIT"),
    "validation": ("GREEK",),
    "test": ("ARMENIAN", "GEORGIAN"),
}
MAX_SHIFT = 2  # pixels, at 28x28; in proportion at other sizes
CACHE_FORMAT = 2


@plugin
@dataclass(frozen=True)
class Glyphs(Classification):
    """Letters of real typefaces; trains on Latin, Cyrillic and digits, tests on other scripts."""

    ways: int = option(5, "classes per task")
    shots: int = option(1, "support images per class")
    queries: int | None = option(
        None, "query images per class; null: all that the support leaves of a class's 12 faces"
    )
    image_size: int = option(28, "height and width in pixels")
    augment: bool = option(
        True, "turn each class of a task by a multiple of 90 degrees, shift each image"
    )
    seed: int = option(0, "seed of the task stream")

    splits: ClassVar[tuple[str, ...]] = tuple(SCRIPTS)
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "model": {"name": "conv4"},
            "adaptation": {"K": 5, "alpha": 0.1},
            "evaluation": {"steps": 10},
        }
    )

    def __post_init__(self) -> None:
        if self.queries is None:
            object.__setattr__(self, "queries", max(1, MIN_FACES - self.shots))
        at_least(self, ways=2, shots=1, queries=1, image_size=8)

    @property
    def in_shape(self) -> tuple[int, ...]:
        return (1, self.image_size, self.image_size)

    def episode(self, split: str, index: int) -> Episode:
        """`ways` classes of the split's scripts, shots + queries of their images each."""
        check_split(split, self.splits)
        need = self.shots + (self.queries or 0)
        loaded = _load(self.image_size)[split]
        classes = [c.images for c in loaded if len(c.images) >= need]  # 12 to 16 faces each
        if self.ways > len(loaded):
            raise DataError(
                f"{self.ways}-way tasks need {self.ways} classes; split '{split}' of glyphs has"
                f" {len(loaded)}",
                "Lower dataset.ways.",
            )
        if self.ways > len(classes):
            most = sorted(len(c.images) for c in loaded)[-self.ways]
            raise DataError(
                f"shots + queries = {need} images per class; of glyphs split '{split}'"
                f" {len(classes)} classes have so many, {self.ways}-way tasks go up to {most}",
                "Lower dataset.shots or the queries (training.queries, at test"
                " evaluation.queries).",
            )
        random, chosen = self._chosen(split, index, len(classes))
        rows = [random.permutation(len(classes[c]))[:need] for c in chosen]
        order = sampling.support_first(self.ways, need, self.shots)
        images = np.concatenate([classes[c][r] for c, r in zip(chosen, rows, strict=True)])[order]
        images = images[..., None]
        if self.augment:
            reach = max(1, round(MAX_SHIFT * self.image_size / 28))
            # A letter that is turned is a class of its own, so a class turns as a whole.
            turns = random.integers(0, 4, (self.ways,))
            images = sampling.turn(images, turns[order // need])
            shifts = random.integers(0, 2 * reach + 1, (self.ways * need, 2))
            images = sampling.shift(images, shifts[order], reach)
        return sampling.to_episode(images, order // need, self.ways * self.shots)

    def class_names(self, split: str, index: int) -> list[str]:
        """The letters of the classes 0 .. ways - 1 of an episode, however they are turned."""
        check_split(split, self.splits)
        need = self.shots + (self.queries or 0)
        names = [c.name for c in _load(self.image_size)[split] if len(c.images) >= need]
        return [names[c] for c in self._chosen(split, index, len(names))[1]]

    def _chosen(
        self, split: str, index: int, n: int
    ) -> tuple[np.random.Generator, NDArray[np.int64]]:
        """The stream of an episode after its first draw, of its classes among n."""
        random = generator(self.seed, split, index)
        return random, random.choice(n, self.ways, replace=False)


class Letter(NamedTuple):
    """A class: its name in Unicode, and its images uint8 [faces, size, size]."""

    name: str
    images: NDArray[np.uint8]


Classes = dict[str, list[Letter]]


@lru_cache(maxsize=4)
def _load(size: int) -> Classes:
    """The classes by split; rendered once, then cached."""
    from matplotlib import get_data_path

    fonts = Path(get_data_path()) / "fonts" / "ttf"
    missing = [face for face in FACES if not (fonts / face).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(FACES)} typefaces are missing in {fonts}: {missing[0]}",
            "Reinstall matplotlib, which ships them.",
        )
    path = _cache_path(fonts, size)
    cached = _read_cache(path)
    if cached is None:
        cached = _render(fonts, size)
        _write_cache(path, cached)
    return cached


def _render(fonts: Path, size: int) -> Classes:
    from fontTools.ttLib import TTFont
    from PIL import Image, ImageDraw, ImageFont

    covered = [set(TTFont(fonts / face, lazy=True).getBestCmap()) for face in FACES]
    typefaces = [ImageFont.truetype(str(fonts / face), round(22 * size / 28)) for face in FACES]

    def draw(character: str, typeface: ImageFont.FreeTypeFont) -> NDArray[np.uint8]:
        image = Image.new("L", (size, size))
        left, top, right, bottom = typeface.getbbox(character)
        x, y = (size - (right - left)) / 2 - left, (size - (bottom - top)) / 2 - top
        ImageDraw.Draw(image).text((round(x), round(y)), character, fill=255, font=typeface)
        return np.asarray(image)

    classes: Classes = {}
    # Across scripts many capitals are the same drawing (Latin A, Greek Alpha): the first one met
    # stays, and training scripts come first, so no test class was seen in training.
    seen: set[bytes] = set()
    for split, scripts in SCRIPTS.items():
        classes[split] = []
        for code in _characters(scripts):
            faces = [t for t, cover in zip(typefaces, covered, strict=True) if code in cover]
            if len(faces) < MIN_FACES:
                continue
            images = np.stack([draw(chr(code), face) for face in faces])
            if images[0].tobytes() in seen or not images.any(axis=(1, 2)).all():
                continue
            seen.add(images[0].tobytes())
            classes[split].append(Letter(unicodedata.name(chr(code)), images))
    return classes


def _characters(scripts: tuple[str, ...]) -> list[int]:
    """Letters and decimal digits of the scripts that have no decomposition, by code point."""
    return [
        code
        for code in range(0x30, min(0x3000, sys.maxunicode))
        if unicodedata.category(chr(code)) in ("Lu", "Ll", "Lo", "Nd")
        and unicodedata.name(chr(code), "").split(" ")[0] in scripts
        and not unicodedata.decomposition(chr(code))
    ]


def _cache_path(fonts: Path, size: int) -> Path:
    """One file per image size, rendering rule and version of the typefaces and the renderer."""
    import PIL

    key = hashlib.sha256(f"{CACHE_FORMAT} {PIL.__version__} {MIN_FACES} {SCRIPTS}".encode())
    for face in FACES:
        key.update(f"{face} {(fonts / face).stat().st_size}".encode())
    name = f"glyphs-{size}-{key.hexdigest()[:16]}.npz"
    return Path(platformdirs.user_cache_dir("binomctl")) / name


def _read_cache(path: Path) -> Classes | None:
    """The cached images; None when there are none or the file cannot be trusted."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            images, owner, names = file["images"], file["owner"], file["names"]
            starts = {split: file[split] for split in SCRIPTS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return {s: [Letter(str(names[c]), images[owner == c]) for c in starts[s]] for s in SCRIPTS}


def _write_cache(path: Path, classes: Classes) -> None:
    """Write beside the target, then rename: no reader ever sees half a file."""
    flat = [letter for split in SCRIPTS for letter in classes[split]]
    owner = np.repeat(np.arange(len(flat)), [len(letter.images) for letter in flat])
    images, names = (np.concatenate([one.images for one in flat]), [one.name for one in flat])
    bounds = np.cumsum([0, *(len(classes[s]) for s in SCRIPTS)])
    ranges = {s: np.arange(bounds[i], bounds[i + 1]) for i, s in enumerate(SCRIPTS)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(
                file, allow_pickle=False, images=images, owner=owner, names=names, **ranges
            )
        os.replace(name, path)
    except OSError:
        return  # a read-only home costs the rendering time at every start, nothing else
