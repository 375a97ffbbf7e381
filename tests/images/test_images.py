"""Every layout of every data set, end to end; the same images as learn2learn's own readers."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from binomctl_datasets.cifar_fs import CIFARFS
from binomctl_datasets.fc100 import FC100
from binomctl_datasets.image_folder import ImageFolder
from binomctl_datasets.learn2learn_tasks import Learn2Learn
from binomctl_datasets.mini_imagenet import MiniImageNet
from binomctl_datasets.omniglot import Omniglot
from binomctl_datasets.tiered_imagenet import TieredImageNet
from command import binomctl
from PIL import Image
from sampled import sampled

from binomctl.cli.datasets import ensure_prepared
from binomctl.errors import ConfigError, DataError
from binomctl.images.prepare import prepare
from binomctl.images.store import NotPrepared, Store, open_store, verify
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.testing import check_dataset

CLASSES = {
    "mini-imagenet": MiniImageNet,
    "tiered-imagenet": TieredImageNet,
    "omniglot": Omniglot,
    "cifar-fs": CIFARFS,
    "fc100": FC100,
    "image-folder": ImageFolder,
}
# The usual division into 1,100, 100 and 423 characters leaves too few of a small file's.
OPTIONS = {"omniglot": {"division": "alphabets"}}
CASES = [(name, layout, write) for (name, layout), write in layouts.LAYOUTS.items()]
IDS = [f"{name}-{write.__name__}" for name, _, write in CASES]


def as_a_set(images):
    return frozenset(image.tobytes() for image in images)


@pytest.mark.parametrize(("name", "layout", "write"), CASES, ids=IDS)
def test_every_layout_is_recognised_and_read_right(tmp_path, name, layout, write):
    write(tmp_path)
    dataset = CLASSES[name](root=str(tmp_path), queries=3, **OPTIONS.get(name, {}))
    store = prepare(dataset.recipe, tmp_path)
    assert store.index.layout.startswith(layout)
    size = {"cifar-fs": 32, "fc100": 32, "omniglot": 28}.get(name, 84)
    assert store.index.shape == (size, size, 1 if name == "omniglot" else 3)
    assert verify(store, {}) == ([], [])
    broken, differs = verify(store, dataset.recipe.reference)
    assert not broken
    assert len(differs) == len(dataset.recipe.reference)
    if name != "omniglot":
        splits = {s: len(classes) for s, classes in store.index.splits.items()}
        assert splits == layouts.SPLITS
        for split in layouts.SPLITS:
            drawn = {as_a_set(layouts.images(split, c, size=size))
                     for c in range(layouts.SPLITS[split])}  # fmt: skip
            assert drawn == {as_a_set(store.images[c.start : c.start + c.count])
                             for c in store.index.splits[split]}  # fmt: skip
    for source in store.index.sources:
        assert Path(source["file"]).is_dir() or len(source["sha256"]) == 64
    check_dataset(type(dataset), dataclasses.asdict(dataset))
    begin = time.perf_counter()
    open_store.__globals__["_open"].cache_clear()
    dataset.episode("train", 0)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(("name", "layout", "write"), sampled(CASES, 5, IDS))
def test_prepare_verify_show_train_and_eval_from_the_command_line(tmp_path, name, layout, write):
    data, run, picture = tmp_path / "data", tmp_path / "run", tmp_path / "episode.png"
    write(data)
    options = [f"--set=dataset.{k}={v}" for k, v in OPTIONS.get(name, {}).items()]
    at = ["--root", data, *options]
    prepared, _ = binomctl("data", "prepare", name, *at, "--json")
    assert json.loads(prepared)["layout"].startswith(layout)
    assert json.loads(binomctl("data", "verify", name, *at, "--partial", "--json")[0])["ok"]
    binomctl("data", "show", name, *at, "-o", picture)
    with Image.open(picture) as image:
        assert image.size[0] > 400
    small = ["--set", "model.filters=4", "--set", "adaptation.K=2", "--set", "training.queries=2",
             "--set", "training.validation_tasks=2", "--set", "evaluation.queries=2"]  # fmt: skip
    binomctl("train", "--dataset", name, *at, "--estimator", "binom", "--L", "1", "--steps", "2",
             "--meta-batch", "2", *small, "--out", run)  # fmt: skip
    result = json.loads(binomctl("eval", run, "--tasks", "4", "--json")[0])
    assert 0 <= result["mean"] <= 1
    assert result["n"] == 4


def test_training_prepares_by_itself_and_data_list_tells(tmp_path, monkeypatch):
    layouts.fc100(tmp_path)
    found, _ = binomctl("data", "list", "--root", tmp_path, "--json")
    states = {d["name"]: d["state"] for d in json.loads(found)["datasets"]}
    assert states["fc100"].startswith("found, not prepared: MetaOptNet")
    assert states["glyphs"] == "ready"
    monkeypatch.setenv("BINOMCTL_DATA", str(tmp_path))
    config, _ = load_config(overrides={"dataset.name": "fc100"})
    with pytest.raises(NotPrepared, match="fc100 is not prepared") as caught:
        build_problem(config)
    assert "data prepare fc100" in caught.value.hint
    ensure_prepared(config)
    assert build_problem(config).dataset.in_shape == (3, 32, 32)
    assert "not complete" in binomctl("data", "verify", "fc100", code=3)[1]


def learn2learn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import learn2learn as l2l
    return l2l


def by_class(store: Store, split: str) -> list[np.ndarray]:
    return [store.images[c.start : c.start + c.count] for c in store.index.splits[split]]


def same(ours: list[np.ndarray], theirs: dict[int, list[np.ndarray]]) -> None:
    """The same classes of the same images, whatever the order of the classes."""
    left = {frozenset(i.tobytes() for i in images) for images in ours}
    right = {frozenset(i.tobytes() for i in images) for images in theirs.values()}
    assert left == right
    assert len(left) == len(ours)


PARITY = {
    "mini-imagenet": (layouts.mini_learn2learn, "MiniImagenet"),
    "tiered-imagenet": (layouts.tiered_png, "TieredImagenet"),
    "cifar-fs": (layouts.cifar_fs, "CIFARFS"),
    "fc100": (layouts.fc100, "FC100"),
}


@pytest.mark.parametrize("name", PARITY)
def test_the_same_images_and_labels_as_learn2learn(tmp_path, name):
    write, theirs = PARITY[name]
    write(tmp_path)
    l2l = learn2learn()
    store = prepare(CLASSES[name](root=str(tmp_path)).recipe, tmp_path)
    for split in layouts.SPLITS:
        # learn2learn's class reads the very files, with Python's own pickle: they are ours.
        reference = getattr(l2l.vision.datasets, theirs)(str(tmp_path), mode=split)
        classes: dict[int, list[np.ndarray]] = {}
        for i in range(len(reference)):
            image, label = reference[i]
            if isinstance(image, torch.Tensor):
                image = image.movedim(0, -1).numpy()
            classes.setdefault(int(label), []).append(np.asarray(image, np.uint8))
        same(by_class(store, split), classes)


def test_omniglot_is_learn2learn_s_to_the_last_bit(tmp_path, monkeypatch):
    """Resized by Lanczos, then 1 - x, as its benchmark has it."""
    import hashlib

    from torchvision import transforms
    from torchvision.datasets import Omniglot as Theirs

    layouts.omniglot(tmp_path)
    sums = {  # of the published archives; the fixture's are others
        p.stem: hashlib.md5(p.read_bytes()).hexdigest()
        for p in (tmp_path / "omniglot-py").glob("*.zip")
    }
    monkeypatch.setattr(Theirs, "zips_md5", sums)
    to_tensor = transforms.Compose(
        [
            transforms.Resize(28, interpolation=Image.LANCZOS),
            transforms.ToTensor(),
            lambda x: 1.0 - x,
        ]
    )
    reference = learn2learn().vision.datasets.FullOmniglot(str(tmp_path), transform=to_tensor)
    classes: dict[int, list[np.ndarray]] = {}
    for i in range(len(reference)):
        image, label = reference[i]
        classes.setdefault(label, []).append((image * 255).round().byte().movedim(0, -1).numpy())
    store = prepare(Omniglot(root=str(tmp_path)).recipe, tmp_path)
    same([c for s in store.index.splits for c in by_class(store, s)], classes)


@pytest.mark.parametrize(
    ("source", "write"),
    [
        ("mini-imagenet", layouts.mini_learn2learn),
        ("tiered-imagenet", layouts.tiered_png),
        ("cifarfs", layouts.cifar_fs),
        ("fc100", layouts.fc100),
        ("FC100", layouts.fc100),
        ("FullOmniglot", layouts.omniglot),
    ],
)
def test_learn2learn_s_tasks_are_a_source_of_pure_episodes(tmp_path, monkeypatch, source, write):
    write(tmp_path)
    if source == "FullOmniglot":
        import hashlib

        from torchvision.datasets import Omniglot as Theirs

        zips = (tmp_path / "omniglot-py").glob("*.zip")
        sums = {p.stem: hashlib.md5(p.read_bytes()).hexdigest() for p in zips}
        monkeypatch.setattr(Theirs, "zips_md5", sums)
    overrides = {
        "dataset.name": f"learn2learn:{source}",
        "dataset.root": str(tmp_path),
        "dataset.ways": 3,
        "dataset.queries": 2,
        "model.filters": 2,
        "training.meta_batch": 2,
    }
    config, _ = load_config(overrides=overrides)
    assert config.dataset.name == "learn2learn"
    problem = build_problem(config)
    dataset = problem.dataset
    first = dataset.episode("validation", 4)
    dataset.episode("validation", 9)
    again = dataset.episode("validation", 4)
    assert torch.equal(first.x_trn, again.x_trn)
    assert torch.equal(first.x_val, again.x_val)
    assert not torch.equal(first.x_trn, dataset.episode("validation", 5).x_trn)
    assert first.y_trn.tolist() == [0, 1, 2]
    assert first.y_val.tolist() == [0, 0, 1, 1, 2, 2]
    x = problem.training_batch(range(2)).x_val
    assert 0 <= x.min() < x.max() <= 1
    check_dataset(type(dataset), dataclasses.asdict(dataset))


def test_learn2learn_by_name_only_where_it_makes_sense(tmp_path):
    with pytest.raises(ConfigError, match="'glyphs' takes nothing after a colon"):
        load_config(overrides={"dataset.name": "glyphs:x"})
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={"dataset.name": "learntolearn:x"})
    assert "did you mean 'learn2learn', which is registered?" in caught.value.hint
    with pytest.raises(DataError, match="sample all three splits from all 1,623 classes"):
        Learn2Learn("omniglot", root=str(tmp_path)).episode("train", 0)
    with pytest.raises(DataError, match="Did you mean 'cifarfs'"):
        Learn2Learn("cifar-fs", root=str(tmp_path)).episode("train", 0)
    with pytest.raises(DataError, match="cannot load 'fc100'") as caught:
        Learn2Learn("fc100", root=str(tmp_path)).episode("train", 0)
    assert "data prepare" in caught.value.hint


@pytest.mark.slow
def test_a_real_folder_of_images_is_learned(tmp_path):
    """The faces of real typefaces as PNG files: unseen alphabets after 40 meta-steps."""
    from binomctl_datasets import glyphs

    for split, short in layouts.SHORT.items():
        for number, faces in enumerate(glyphs._load(28)[split]):
            folder = tmp_path / "letters" / short / f"{split}{number:03d}"
            folder.mkdir(parents=True)
            for i, face in enumerate(faces.images[:12]):
                Image.fromarray(face).save(folder / f"{i:02d}.png")
    at = ["--root", tmp_path / "letters", "--set", "dataset.mode=L"]
    binomctl("data", "verify", "image-folder", *at, code=3)  # not prepared yet
    binomctl("train", "--dataset", "image-folder", *at, "--estimator", "binom", "--L", "1", "--K",
             "3", "--alpha", "0.1", "--steps", "40", "--out", tmp_path / "run", "--set",
             "model.filters=16", "--set", "training.queries=5", "--set", "evaluation.queries=5",
             "--set", "training.validation_tasks=10")  # fmt: skip
    result = json.loads(binomctl("eval", tmp_path / "run", "--tasks", "60", "--json")[0])
    assert result["mean"] - result["ci95"] > 0.4  # chance: 0.2
