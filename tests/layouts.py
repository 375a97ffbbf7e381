"""Writes small data sets in the exact layouts that the published ones come in.

Every class has a colour and a shape of its own, so that a network can learn to tell them apart,
and every image some noise, so that no two are the same.
"""

from __future__ import annotations

import functools
import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = {"train": 8, "validation": 6, "test": 7}  # classes
SHORT = {"train": "train", "validation": "val", "test": "test"}
N = 20  # images per class


@functools.cache
def images(split: str, c: int, n: int = N, size: int = 84) -> np.ndarray:
    """Images of one class, uint8 [n, size, size, 3]: stripes of its own angle, width and colour."""
    random = np.random.default_rng([sorted(SPLITS).index(split), c])
    angle, period = random.uniform(0, np.pi), size / random.uniform(3, 7)
    colours = random.integers(0, 256, (2, 3))
    y, x = np.mgrid[:size, :size]
    phase = random.uniform(0, 2 * np.pi, n)[:, None, None]
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + phase)
    share = (wave[..., None] + 1) / 2
    picture = colours[0] * share + colours[1] * (1 - share)
    out = (picture + random.normal(0, 8, picture.shape)).clip(0, 255).astype(np.uint8)
    out.setflags(write=False)
    return out


def noise(path: Path, seed: object, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    """A picture of noise as a file; its pixels as they were written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(values).save(path)
    return values


def noise_folders(
    root: Path, counts: Mapping[str, int], shape: tuple[int, ...] = (8, 8, 3)
) -> None:
    """<class>/<number>.png under a folder, so many of each class and no two alike."""
    for c, (name, n) in enumerate(counts.items()):
        for i in range(n):
            noise(root / name / f"{i}.png", [c, i], shape)


def split_noise(root: Path, classes: int, each: int, shape: tuple[int, ...]) -> None:
    """{train,val,test}/<split><class>/*, so many classes in each and pictures in those."""
    named = {f"{split}/{split}{c}": each for split in SHORT.values() for c in range(classes)}
    noise_folders(root, named, shape)


def synset(split: str, c: int) -> str:
    return f"n{10_000_000 * (1 + list(SPLITS).index(split)) + c:08d}"


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def dump(path: Path, value: object, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))


def split_arrays(split: str, size: int = 84) -> tuple[np.ndarray, list[int]]:
    """All images of a split, shuffled as published files may be, and their labels."""
    x = np.concatenate([images(split, c, size=size) for c in range(SPLITS[split])])
    labels = np.repeat(np.arange(SPLITS[split]), N)
    order = np.random.default_rng(7).permutation(len(x))
    return x[order], labels[order].tolist()


def cache(split: str) -> dict[str, object]:
    x, labels = split_arrays(split)
    rows = {synset(split, c): np.flatnonzero(np.equal(labels, c)).tolist() for c in set(labels)}
    return {"image_data": x, "class_dict": rows}


def mini_learn2learn(root: Path) -> None:
    for split in SPLITS:
        dump(root / f"mini-imagenet-cache-{split}.pkl", cache(split))


def mini_ren(root: Path) -> None:
    for split, short in SHORT.items():
        dump(root / "mini-imagenet" / f"mini-imagenet-cache-{short}.pkl", cache(split), 4)


def mini_tar(root: Path) -> None:
    mini_ren(root)
    with tarfile.open(root / "mini-imagenet.tar.gz", "w:gz") as archive:
        for path in sorted((root / "mini-imagenet").iterdir()):
            archive.add(path, path.name)
    shutil.rmtree(root / "mini-imagenet")


def mini_python2(root: Path) -> None:
    """As Python 2 wrote them: bytes for keys, for names and for the pixels themselves."""
    root.mkdir(parents=True, exist_ok=True)
    for split, short in SHORT.items():
        record = cache(split)
        rows = {k.encode(): v for k, v in record["class_dict"].items()}
        path = root / f"mini-imagenet-cache-{short}.pkl"
        path.write_bytes(python2_pickle({b"image_data": record["image_data"], b"class_dict": rows}))


def mini_metaoptnet(root: Path) -> None:
    for split, name in {"train": "train_phase_train", "validation": "val", "test": "test"}.items():
        x, labels = split_arrays(split)
        offset = {"train": 0, "validation": 64, "test": 80}[split]
        record = {"data": x, "labels": [offset + v for v in labels], "catname2label": {}}
        dump(root / f"miniImageNet_category_split_{name}.pickle", record)


def folders(root: Path, size: int = 84, suffix: str = "png") -> None:
    for split, short in SHORT.items():
        for c in range(SPLITS[split]):
            folder = root / short / synset(split, c)
            folder.mkdir(parents=True)
            for i, image in enumerate(images(split, c, size=size)):
                Image.fromarray(image).save(folder / f"{i:04d}.{suffix}")


def tiered_png(root: Path) -> None:
    """Lists of encoded PNG files, uint8 [n, 1] as OpenCV gives them in train, [n] elsewhere."""
    for split, short in SHORT.items():
        x, labels = split_arrays(split)
        encoded = [np.frombuffer(png(image), np.uint8) for image in x]
        if split == "train":
            encoded = [e[:, None] for e in encoded]
        dump(root / "tiered-imagenet" / f"{short}_images_png.pkl", encoded)
        _tiered_labels(root, split, short, labels)


def tiered_npz(root: Path) -> None:
    (root / "tiered-imagenet").mkdir(parents=True)
    for split, short in SHORT.items():
        x, labels = split_arrays(split)
        write = np.savez_compressed if split == "test" else np.savez
        write(root / "tiered-imagenet" / f"{short}_images.npz", images=x[..., ::-1])
        _tiered_labels(root, split, short, labels)


def _tiered_labels(root: Path, split: str, short: str, labels: list[int]) -> None:
    record = {
        "label_specific": np.array(labels),
        "label_general": np.array(labels) // 3,
        # Two cranes: words that both splits share are not the same class.
        "label_specific_str": ["crane"] + [f"{split} {c}" for c in range(1, SPLITS[split])],
        "label_general_str": ["a", "b", "c"],
    }
    dump(root / "tiered-imagenet" / f"{short}_labels.pkl", record)


def omniglot(root: Path, zipped: bool = False) -> None:
    """105x105 drawings, black on white, one bit deep; two alphabets a part."""
    for part, alphabets in {"background": 3, "evaluation": 2}.items():
        base = root / "omniglot-py" / f"images_{part}"
        for a in range(alphabets):
            for c in range(6):
                folder = base / f"{part}_{a}" / f"character{c + 1:02d}"
                folder.mkdir(parents=True)
                split = "train" if part == "background" else "test"
                for i, image in enumerate(images(split, 10 * a + c, size=105)):
                    drawing = Image.fromarray(image).convert("1")
                    drawing.save(folder / f"{a:02d}{c:02d}_{i + 1:02d}.png")
        # torchvision looks at the archive even where the folder is there.
        with zipfile.ZipFile(base.with_suffix(".zip"), "w") as archive:
            for path in sorted(base.rglob("*.png")):
                archive.write(path, path.relative_to(base.parent))
        if zipped:
            shutil.rmtree(base)


def omniglot_zip(root: Path) -> None:
    omniglot(root, zipped=True)


def cifar_fs(root: Path) -> None:
    base = root / "cifarfs" / "cifar100"
    lists = base / "splits" / "bertinetto"
    lists.mkdir(parents=True)
    for split, short in SHORT.items():
        names = [f"{split}_{c}" for c in range(SPLITS[split])]
        (lists / f"{short}.txt").write_text("\n".join(names) + "\n")
        for c, name in enumerate(names):
            folder = base / "data" / name
            folder.mkdir(parents=True)
            for i, image in enumerate(images(split, c, size=32)):
                Image.fromarray(image).save(folder / f"{name}_s_{i:06d}.png")


def fc100(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for split, short in SHORT.items():
        x, labels = split_arrays(split, size=32)
        offset = {"train": 0, "validation": 60, "test": 80}[split]
        record = {b"data": x, b"labels": [offset + v for v in labels]}
        (root / f"FC100_{short}.pickle").write_bytes(python2_pickle(record))


def python2_pickle(value: object) -> bytes:
    """A protocol-2 pickle as Python 2's cPickle writes it: str is bytes (opcodes U and T)."""
    out = bytearray(b"\x80\x02")

    def string(s: bytes) -> None:
        out.extend(b"U" + bytes([len(s)]) if len(s) < 256 else b"T" + len(s).to_bytes(4, "little"))
        out.extend(s)

    def put(v: object) -> None:
        if isinstance(v, bytes):
            string(v)
        elif isinstance(v, bool | int):
            out.extend(b"J" + int(v).to_bytes(4, "little", signed=True))
        elif isinstance(v, dict):
            out.extend(b"}(")
            for key, item in v.items():
                put(key)
                put(item)
            out.extend(b"u")
        elif isinstance(v, list):
            out.extend(b"](")
            for item in v:
                put(item)
            out.extend(b"e")
        elif isinstance(v, np.ndarray):
            out.extend(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85")
            string(b"b")
            out.extend(b"tR(K\x01(")
            for n in v.shape:
                put(n)
            out.extend(b"tcnumpy\ndtype\n(")
            string(b"u1")
            out.extend(b"K\x00K\x01tR(K\x03")
            string(b"|")
            out.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
            string(v.tobytes())
            out.extend(b"tb")
        else:
            raise TypeError(type(v))

    put(value)
    return bytes(out + b".")


LAYOUTS = {
    ("mini-imagenet", "learn2learn: pickles of image_data"): mini_learn2learn,
    ("mini-imagenet", "Ren et al., torchmeta: pickles of image_data"): mini_ren,
    ("mini-imagenet", "Ren et al., torchmeta: pickles of image_data and"): mini_tar,
    ("mini-imagenet", "Ren et al., torchmeta: pickles of image_data and class_dict"): mini_python2,
    ("mini-imagenet", "MetaOptNet: pickles of data and labels"): mini_metaoptnet,
    ("mini-imagenet", "folders: {train,val,test}/<class>/*"): folders,
    ("tiered-imagenet", "learn2learn, Ren et al.: pickled lists of PNG files"): tiered_png,
    ("tiered-imagenet", "Ren et al.: arrays of BGR pixels"): tiered_npz,
    ("omniglot", "folders: {images_background,images_evaluation}"): omniglot,
    ("omniglot", "folders: {images_background,images_evaluation}/"): omniglot_zip,
    ("cifar-fs", "folder of classes with lists: data, bertinetto"): cifar_fs,
    ("fc100", "MetaOptNet, learn2learn: pickles of data and labels"): fc100,
    ("image-folder", "folders: {train,val,test}/<class>/*"): folders,
}


def in_folders(name: str) -> Callable[[Path], None]:
    """{train,val,test}/<class>/* in a folder of the data set's name."""
    return lambda root: folders(root / name, size=32)


ONE_OF_EACH = {
    "cub": in_folders("cub"),
    "cars": in_folders("cars"),
    "aircraft": in_folders("aircraft"),
    "vgg-flower": in_folders("vgg_flower"),
    "fungi": in_folders("fungi"),
    "textures": in_folders("dtd"),
    "quick-draw": in_folders("quickdraw"),
    "meta-album": lambda root: folders(root, size=32),
    "mini-imagenet": mini_learn2learn,
    "learn2learn": mini_learn2learn,
    "tiered-imagenet": tiered_png,
    "omniglot": omniglot,
    "cifar-fs": cifar_fs,
    "fc100": fc100,
    "image-folder": folders,
}


def features(path, classes=6, each=20, **changes):
    """A file of feature vectors around points of their classes; the first entry says which."""
    random, arrays = np.random.default_rng(0), {}
    for split in ("train", "validation", "test"):
        y = np.repeat(np.arange(classes), each)
        x = 3 * random.normal(size=(classes, 8))[y] + random.normal(size=(len(y), 8))
        x[:, 0] = y
        arrays |= {f"{split}_x": x, f"{split}_y": np.array([f"class {c}" for c in y])}
    np.savez(path, **{n: a for n, a in (arrays | changes).items() if a is not None})
    return str(path)
