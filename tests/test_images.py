"""Every layout of every data set, end to end; the same images as learn2learn's own readers."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from unittest import mock

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
from PIL import Image

from binomctl.cli import main
from binomctl.cli.datasets import ensure_prepared
from binomctl.config import load_config
from binomctl.errors import ConfigError, DataError
from binomctl.images import convert as converting
from binomctl.images import prepare as preparing
from binomctl.images import sampling
from binomctl.images.divide import at_random
from binomctl.images.prepare import prepare
from binomctl.images.recipe import Recipe, store_path
from binomctl.images.store import NotPrepared, Store, open_store, verify
from binomctl.prefetch import ahead
from binomctl.problem import build_problem
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


def binomctl(*args: object, code: int = 0) -> tuple[str, str]:
    """Run a command in this process, as its console script does: (stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["binomctl", *map(str, args)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            ended = end.code or 0
        else:
            ended = 0
    assert ended == code, err.getvalue()
    return out.getvalue(), err.getvalue()


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
            drawn = {tuple(np.unique(layouts.images(split, c, size=size), axis=0).ravel()[::997])
                     for c in range(layouts.SPLITS[split])}  # fmt: skip
            found = set()
            for c in store.index.splits[split]:
                rows = store.images[c.start : c.start + c.count]
                found.add(tuple(np.unique(rows, axis=0).ravel()[::997]))
            assert found == drawn
    for source in store.index.sources:
        assert Path(source["file"]).is_dir() or len(source["sha256"]) == 64
    check_dataset(type(dataset), dataclasses.asdict(dataset))
    begin = time.perf_counter()
    open_store.__globals__["_open"].cache_clear()
    dataset.episode("train", 0)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(("name", "layout", "write"), CASES, ids=IDS)
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
    binomctl("train", "--dataset", name, *at, "--estimator", "binom", "--L", "1", "--steps", "20",
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
    with pytest.raises(ConfigError, match="Did you mean 'learn2learn'"):
        load_config(overrides={"dataset.name": "learntolearn:x"})
    with pytest.raises(DataError, match="sample all three splits from all 1,623 classes"):
        Learn2Learn("omniglot", root=str(tmp_path)).episode("train", 0)
    with pytest.raises(DataError, match="Did you mean 'cifarfs'"):
        Learn2Learn("cifar-fs", root=str(tmp_path)).episode("train", 0)
    with pytest.raises(DataError, match="cannot load 'fc100'") as caught:
        Learn2Learn("fc100", root=str(tmp_path)).episode("train", 0)
    assert "data prepare" in caught.value.hint


# Sampling ---------------------------------------------------------------------------------------


def test_a_draw_has_no_image_twice_and_reaches_every_image():
    counts = np.array([20, 21, 35, 20, 90])
    seen: dict[int, set[int]] = {c: set() for c in range(5)}
    for seed in range(600):
        chosen, images = sampling.draw(counts, 3, 20, np.random.default_rng(seed))
        assert len(set(chosen.tolist())) == 3
        for c, drawn in zip(chosen, images, strict=True):
            assert len(set(drawn.tolist())) == 20
            assert drawn.max() < counts[c]
            seen[c] |= set(drawn.tolist())
    assert [len(s) for s in seen.values()] == counts.tolist()


def test_the_first_image_of_a_draw_is_uniform():
    """Support images are the first of a draw: each of 10 about as often as the others."""
    tally = np.zeros(10)
    for seed in range(3000):
        _, images = sampling.draw(np.array([10, 10]), 2, 4, np.random.default_rng(seed))
        tally[images[:, 0]] += 1
    expected = tally.sum() / 10
    chi = ((tally - expected) ** 2 / expected).sum()
    assert chi < 27.9  # 99.9% of chi-squared with 9 degrees of freedom


def test_augmentation_is_what_a_loop_over_the_images_gives():
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (12, 9, 9, 2), np.uint8)
    turns = random.integers(0, 4, 12)
    flips = random.random(12) < 0.5
    shifts = random.integers(0, 5, (12, 2))
    turned, flipped = sampling.turn(images, turns), sampling.flip(images, flips)
    shifted = sampling.shift(images, shifts, 2)
    for i in range(12):
        assert np.array_equal(turned[i], np.rot90(images[i], turns[i]))
        assert np.array_equal(flipped[i], images[i, :, ::-1] if flips[i] else images[i])
        dy, dx = shifts[i]
        padded = np.pad(images[i], ((2, 2), (2, 2), (0, 0)))
        assert np.array_equal(shifted[i], padded[dy : dy + 9, dx : dx + 9])
    assert np.array_equal(sampling.shift(images, np.full((12, 2), 2), 2), images)
    assert set(turns.tolist()) == {0, 1, 2, 3}


def test_a_class_turns_as_a_whole_and_support_comes_first():
    order = sampling.support_first(3, 4, 1)
    assert order.tolist() == [0, 4, 8, 1, 2, 3, 5, 6, 7, 9, 10, 11]
    images = np.arange(12, dtype=np.uint8)[order].reshape(12, 1, 1, 1)
    episode = sampling.to_episode(images, 3, 1)
    assert episode.x_trn.flatten().tolist() == [0, 4, 8]
    assert episode.x_val.flatten().tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert episode.y_trn.tolist() == [0, 1, 2]
    assert episode.y_val.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    # What episode() passes to turn(): the class of every image.
    assert (order * 3 // 12).tolist() == [0, 1, 2, 0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_augmentation_is_for_training_alone(tmp_path):
    layouts.fc100(tmp_path)
    plain = FC100(root=str(tmp_path), queries=2)
    prepare(plain.recipe, tmp_path)
    changed = FC100(root=str(tmp_path), queries=2, flip=True, crop=4, turn=True)
    assert torch.equal(plain.episode("test", 0).x_val, changed.episode("test", 0).x_val)
    assert not torch.equal(plain.episode("train", 0).x_val, changed.episode("train", 0).x_val)
    assert plain.class_names("train", 0) == changed.class_names("train", 0)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(tmp_path, workers):
    layouts.fc100(tmp_path)
    overrides = {
        "dataset.name": "fc100", "dataset.root": str(tmp_path), "dataset.flip": True,
        "training.queries": 2, "evaluation.queries": 2, "training.meta_batch": 2,
        "model.filters": 4, "training.steps": 3, "adaptation.K": 2,
    }  # fmt: skip
    from binomctl.meta import MetaState, meta_train

    results = []
    for number in (0, workers):
        config, _ = load_config(overrides=overrides | {"training.workers": number})
        ensure_prepared(config)
        problem = build_problem(config)
        state = MetaState(problem)
        losses = [step.loss for step in meta_train(problem, state)]
        results.append((losses, state.theta.detach()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_an_error_comes_where_its_result_would_have():
    def make(i):
        if i == 3:
            raise DataError("the third")
        return i * i

    for workers in (0, 2):
        got = []
        with pytest.raises(DataError, match="the third"):
            got.extend(y for _, y in ahead(make, range(9), workers))
        source = ahead(make, range(3), workers)
        assert list(source) == [(0, 0), (1, 1), (2, 4)]


def test_pixels_travel_as_bytes_and_are_scaled_on_arrival(tmp_path):
    layouts.fc100(tmp_path)
    overrides = {"dataset.name": "fc100", "dataset.root": str(tmp_path), "training.queries": 2,
                 "evaluation.queries": 2}  # fmt: skip
    for pixels, top in (("unit", 1), ("raw", 255)):
        config, _ = load_config(overrides=overrides | {"pixels": pixels})
        ensure_prepared(config)
        problem = build_problem(config)
        drawn = problem.draw_training(range(2))
        assert drawn.x_trn.dtype == torch.uint8
        placed = problem.place(drawn)
        assert placed.x_trn.dtype == torch.float32
        assert torch.equal(placed.x_trn, drawn.x_trn.float() / (255 / top))


# Divisions --------------------------------------------------------------------------------------


def test_one_folder_of_classes_is_divided_by_seed_or_by_file(tmp_path):
    layouts.folders(tmp_path / "three", size=16)
    flat = tmp_path / "flat"
    flat.mkdir()
    for split in ("train", "val", "test"):
        for folder in (tmp_path / "three" / split).iterdir():
            folder.rename(flat / folder.name)
    dataset = ImageFolder(root=str(flat), ways=2, queries=2)
    index = prepare(dataset.recipe, flat).index
    divided = dataset.divide(index)
    names = {s: {c.name for c in cs} for s, cs in divided.items()}
    assert [len(n) for n in names.values()] == [14, 3, 4]
    assert len(set.union(*names.values())) == 21
    assert dataset.divide(index) == divided
    assert ImageFolder(root=str(flat), split_seed=1).divide(index) != divided
    check_dataset(type(dataset), dataclasses.asdict(dataset))

    listed = sorted(set.union(*names.values()))
    file = tmp_path / "splits.yaml"
    file.write_text(
        json.dumps({"train": listed[:4], "validation": listed[4:6], "test": listed[6:]})
    )
    chosen = ImageFolder(root=str(flat), split_file=str(file), ways=2, queries=2)
    assert [c.name for c in chosen.divide(index)["train"]] == listed[:4]
    file.write_text(
        json.dumps({"train": listed[:4], "validation": listed[3:6], "test": listed[6:]})
    )
    with pytest.raises(DataError, match="'train' and 'validation' share 1 classes"):
        chosen.divide(index)
    file.write_text(json.dumps({"train": ["n1"], "validation": [], "test": []}))
    with pytest.raises(DataError, match="unknown class 'n1'"):
        chosen.divide(index)
    file.write_text("train: [a]\ntrain: [b]\n")
    with pytest.raises(ConfigError, match="duplicate key"):
        chosen.divide(index)


def test_omniglot_is_divided_by_characters_or_by_alphabets(tmp_path):
    layouts.omniglot(tmp_path)
    prepare(Omniglot(root=str(tmp_path)).recipe, tmp_path)
    index = open_store(store_path(Omniglot(root=str(tmp_path)).recipe, tmp_path)).index
    by_character = Omniglot(root=str(tmp_path)).divide(index)
    assert [len(c) for c in by_character.values()] == [20, 2, 8]
    by_alphabet = Omniglot(root=str(tmp_path), division="alphabets").divide(index)
    groups = {s: {c.name.split("/")[0] for c in cs} for s, cs in by_alphabet.items()}
    assert groups["test"] == {"evaluation_0", "evaluation_1"}
    assert len(groups["validation"]) == 1
    assert not groups["train"] & groups["validation"]
    published = [type(index.splits["background"][0])(f"a/{i}", i, 20) for i in range(1623)]
    shares = at_random(published, (1100 / 1623, 100 / 1623, 423 / 1623), 0)
    assert [len(c) for c in shares.values()] == [1100, 100, 423]


# Conversion -------------------------------------------------------------------------------------


def test_an_interrupted_conversion_goes_on_where_it_was(tmp_path, monkeypatch):
    layouts.mini_learn2learn(tmp_path)
    recipe = MiniImageNet(root=str(tmp_path)).recipe
    whole = prepare(recipe, tmp_path, tmp_path / "whole")
    written = []
    real = converting._write_class

    def stop_at_the_tenth(owner, *rest):
        if len(written) == 10:
            raise KeyboardInterrupt
        written.append(owner.name)
        return real(owner, *rest)

    monkeypatch.setattr(converting, "_write_class", stop_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, tmp_path)
    assert not store_path(recipe, tmp_path).exists()
    journal = store_path(recipe, tmp_path).with_name("mini-imagenet-84.partial") / "progress.jsonl"
    with journal.open("a") as file:
        file.write('{"class": "train/n1')  # torn
    again = []

    def count(owner, *rest):
        again.append(owner.name)
        return real(owner, *rest)

    monkeypatch.setattr(converting, "_write_class", count)
    store = prepare(recipe, tmp_path)
    assert len(again) == 21 - 10
    assert np.array_equal(store.images, whole.images)
    assert store.index.splits == whole.index.splits


def test_a_killed_conversion_leaves_nothing_under_the_final_name_and_is_finished_later(tmp_path):
    layouts.folders(tmp_path, size=84)
    command = [sys.executable, "-m", "binomctl", "data", "prepare", "mini-imagenet", "--root",
               str(tmp_path)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    partial = tmp_path / "prepared" / "mini-imagenet-84.partial"
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        journal = partial / "progress.jsonl"
        if journal.exists() and journal.read_text().count("\n") > 3:
            break
        time.sleep(0.001)
    process.kill()
    process.wait()
    if not (tmp_path / "prepared" / "mini-imagenet-84").exists():
        assert partial.exists()
    store = prepare(MiniImageNet(root=str(tmp_path)).recipe, tmp_path)
    assert verify(store, {}) == ([], [])
    assert store.index.total == 420


def test_two_processes_do_not_convert_the_same_thing(tmp_path):
    layouts.fc100(tmp_path)
    recipe = FC100(root=str(tmp_path)).recipe
    told: list[str] = []

    class Told(converting.Silent):
        def start(self, what, total):
            told.append(what)

    lock = store_path(recipe, tmp_path).with_name(".fc100-32.lock")
    lock.parent.mkdir()
    with preparing._alone(lock, Told()):
        other = threading.Thread(target=prepare, args=(recipe, tmp_path, None, Told()))
        other.start()
        while not told:
            time.sleep(0.01)
        assert "waiting for another process" in told[0]
        assert not store_path(recipe, tmp_path).exists()
    other.join()
    command = [sys.executable, "-m", "binomctl", "data", "prepare", "mini-imagenet", "--root",
               str(tmp_path)]  # fmt: skip
    layouts.mini_learn2learn(tmp_path)
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait() for process in both] == [0, 0, 0]
    for name in (FC100, MiniImageNet):
        store = open_store(store_path(name(root=str(tmp_path)).recipe, tmp_path))
        assert verify(store, {}) == ([], [])
        assert sorted(p.name for p in store.path.iterdir()) == ["images.npy", "index.json"]


def test_another_size_is_another_store(tmp_path):
    layouts.fc100(tmp_path)
    binomctl("data", "prepare", "fc100", "--root", tmp_path, "--size", "16")
    binomctl("data", "prepare", "fc100", "--root", tmp_path, "--to", tmp_path / "else")
    small = FC100(root=str(tmp_path), image_size=16, queries=2)
    assert small.in_shape == (3, 16, 16)
    assert FC100(root=str(tmp_path / "else"), queries=2).in_shape == (3, 32, 32)
    with pytest.raises(DataError, match="was prepared with size 32 and not 16"):
        FC100(root=str(tmp_path / "else"), image_size=16).episode("train", 0)


def test_a_recipe_needs_nothing_but_its_layouts(tmp_path):
    """An outside plugin's data set is prepared by the same code."""
    layouts.folders(tmp_path, size=12)
    from binomctl.images.layouts_folders import SplitFolders
    from binomctl.images.sources import Shape

    store = prepare(Recipe("mine", (SplitFolders(),), Shape("L", None)), tmp_path)
    assert store.index.shape == (12, 12, 1)


def test_a_real_folder_of_images_is_learned(tmp_path):
    """The faces of real typefaces as PNG files: unseen alphabets after 40 meta-steps."""
    from binomctl_datasets import glyphs

    for split, short in layouts.SHORT.items():
        for number, faces in enumerate(glyphs._load(28)[split]):
            folder = tmp_path / "letters" / short / f"{split}{number:03d}"
            folder.mkdir(parents=True)
            for i, face in enumerate(faces[:12]):
                Image.fromarray(face).save(folder / f"{i:02d}.png")
    at = ["--root", tmp_path / "letters", "--set", "dataset.mode=L"]
    binomctl("data", "verify", "image-folder", *at, code=3)  # not prepared yet
    binomctl("train", "--dataset", "image-folder", *at, "--estimator", "binom", "--L", "1", "--K",
             "3", "--alpha", "0.1", "--steps", "40", "--out", tmp_path / "run", "--set",
             "model.filters=16", "--set", "training.queries=5", "--set", "evaluation.queries=5",
             "--set", "training.validation_tasks=10")  # fmt: skip
    result = json.loads(binomctl("eval", tmp_path / "run", "--tasks", "60", "--json")[0])
    assert result["mean"] - result["ci95"] > 0.4  # chance: 0.2
