"""The data sets of cross-domain tests, from their usual layouts."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from binomctl_datasets.aircraft import Aircraft
from binomctl_datasets.cars import Cars
from binomctl_datasets.cub import CUB
from binomctl_datasets.fungi import Fungi
from binomctl_datasets.image_folder import ImageFolder
from binomctl_datasets.meta_album import MetaAlbum
from binomctl_datasets.mini_imagenet import MiniImageNet
from binomctl_datasets.quick_draw import QuickDraw
from binomctl_datasets.textures import Textures
from binomctl_datasets.vgg_flower import VGGFlower
from layouts import noise, noise_folders
from PIL import Image
from scipy.io import savemat

from binomctl.errors import DamagedFile, DataError
from binomctl.images.divide import alternate, meta_dataset
from binomctl.images.prepare import prepare
from binomctl.images.sources import Missing
from binomctl.images.store import ClassInfo, verify

SMALL = {"queries": 1, "ways": 3, "image_size": 8}


def drawn(dataset):
    """Prepared, divided, and an episode of each split."""
    store = prepare(dataset.recipe, dataset.folder())
    divided = dataset.divide(store.index)
    for split in divided:
        assert dataset.episode(split, 0).x_trn.shape[1:] == dataset.in_shape
        assert len(dataset.class_names(split, 0)) == dataset.ways
    return store, divided


def names_of(divided):
    return {split: {c.name for c in classes} for split, classes in divided.items()}


def classes(n):
    return [ClassInfo(f"{i:04d}", i, 1) for i in range(n)]


def test_meta_dataset_s_published_lists_come_out():
    """Some classes of its published lists: of CUB by their numbers, of Aircraft by their rank."""
    birds = names_of(meta_dataset(classes(200), (140, 30, 30)))
    assert {f"{n - 1:04d}" for n in (190, 144, 14)} <= birds["train"]
    assert sorted(int(n) + 1 for n in birds["test"]) == CUB_TEST
    assert sorted(int(n) + 1 for n in birds["validation"]) == CUB_VALIDATION
    assert len(birds["train"] | birds["test"] | birds["validation"]) == 200


def test_every_second_class_trains():
    found = {s: [int(c.name) for c in cs] for s, cs in alternate(classes(9)).items()}
    assert found == {"train": [0, 2, 4, 6, 8], "validation": [1, 5], "test": [3, 7]}


def test_cub(tmp_path):
    names = [f"{i:03d}.Bird_{i}" for i in range(1, 201)]
    noise_folders(tmp_path / "CUB_200_2011" / "images", dict.fromkeys(names, 2))
    store, divided = drawn(CUB(root=str(tmp_path), **SMALL))
    assert [len(divided[s]) for s in ("train", "validation", "test")] == [100, 50, 50]
    assert divided["test"][0].name == names[3]
    other = CUB(root=str(tmp_path), division="meta-dataset", **SMALL).divide(store.index)
    assert sorted(int(c.name[:3]) for c in other["test"]) == CUB_TEST
    recipe = CUB(root=str(tmp_path)).recipe
    assert "200 classes and 400 images" in verify(store, recipe.reference)[1][0]


def test_colours_become_grey_and_grey_ones_colours(tmp_path):
    noise_folders(tmp_path / "data", dict.fromkeys([f"{c}" for c in range(20)], 2))
    colour = ImageFolder(root=str(tmp_path / "data"), **SMALL)
    prepare(colour.recipe, colour.folder())
    grey = MetaAlbum(root=str(tmp_path / "data"), mode="L", **SMALL)
    assert grey.recipe.shape.mode == "L"  # of one's own folder it is the prepared form's
    prepare(grey.recipe, grey.folder())
    assert grey.episode("train", 0).x_trn.shape[1:] == grey.in_shape == (1, 8, 8)
    names = [f"{i:03d}.Bird" for i in range(1, 201)]
    noise_folders(tmp_path / "cub" / "images", dict.fromkeys(names, 2))
    birds = CUB(root=str(tmp_path / "cub"), **SMALL)
    prepare(birds.recipe, birds.folder())
    dull = CUB(root=str(tmp_path / "cub"), mode="L", **SMALL)  # the same prepared form
    assert dull.in_shape == (1, 8, 8)
    one, other = birds.episode("test", 0), dull.episode("test", 0)
    for colours, found in zip(one.x_val, other.x_val, strict=True):
        wanted = np.asarray(Image.fromarray(colours.permute(1, 2, 0).numpy()).convert("L"))
        assert np.abs(found[0].numpy().astype(int) - wanted).max() <= 1
    sketches = QuickDraw(root=str(tmp_path / "qd"), mode="RGB", ways=3, queries=1)
    (tmp_path / "qd").mkdir()
    for c in range(345):
        np.save(tmp_path / "qd" / f"{c:03d}.npy", np.full((3, 784), c % 256, np.uint8))
    prepare(sketches.recipe, sketches.folder())
    x = sketches.episode("test", 0).x_trn
    assert x.shape[1:] == sketches.in_shape == (3, 28, 28)
    assert bool((x[:, 0] == x[:, 2]).all())


def test_a_part_of_a_published_data_set_is_not_divided_as_if_it_were_all(tmp_path):
    noise_folders(tmp_path / "images", dict.fromkeys(["001.a", "002.b", "003.c"], 2))
    with pytest.raises(DataError, match="3 classes here and 200 as published"):
        drawn(CUB(root=str(tmp_path), **SMALL))


@pytest.mark.parametrize(
    ("cls", "n", "inside", "counts"),
    [(Fungi, 1394, "images", [994, 200, 200]), (Textures, 47, "dtd/images", [33, 7, 7])],
)
def test_folders_of_classes(tmp_path, cls, n, inside, counts):
    noise_folders(tmp_path / inside, dict.fromkeys([f"{i:04d}.Species {i}" for i in range(n)], 2))
    _, divided = drawn(cls(root=str(tmp_path), **SMALL))
    assert [len(divided[s]) for s in ("train", "validation", "test")] == counts


def test_aircraft_is_cut_to_its_box(tmp_path):
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    pictures, lines, boxes = {}, [], []
    for i in range(200):
        pictures[i] = noise(data / "images" / f"{i:07d}.jpg", i, (16, 16, 3))
        lines.append(f"{i:07d} F-16A/B no {i // 2:02d}")
        boxes.append(f"{i:07d} 3 5 10 12")
    (data / "images_variant_trainval.txt").write_text("\n".join(lines[:130]) + "\n")
    (data / "images_variant_test.txt").write_text("\n".join(lines[130:]) + "\n")
    with pytest.raises(Missing, match=r"has no .*images_box\.txt"):
        drawn(Aircraft(root=str(tmp_path), **SMALL))
    (data / "images_box.txt").write_text("\n".join(boxes) + "\n")
    store, divided = drawn(Aircraft(root=str(tmp_path), **SMALL))
    assert [len(divided[s]) for s in ("train", "validation", "test")] == [70, 15, 15]
    first = min(divided["train"], key=lambda c: c.start)
    row = int(first.name[-2:]) * 2
    whole = np.asarray(Image.open(data / "images" / f"{row:07d}.jpg"))
    assert np.array_equal(store.images[first.start], whole[4:12, 2:10])


def test_cars_in_both_releases(tmp_path):
    for i in range(392):
        half = "cars_train" if i % 2 else "cars_test"
        noise(tmp_path / "two" / half / f"{i:05d}.jpg", i)
        noise(tmp_path / "one" / "car_ims" / f"{i:06d}.jpg", i)
    dtype = [("fname", object), ("class", object)]
    rows = [(f"{i:05d}.jpg", i // 2 + 1) for i in range(392)]
    (tmp_path / "two" / "devkit").mkdir()
    train, test = (np.array(r, dtype) for r in (rows[1::2], rows[::2]))
    savemat(tmp_path / "two" / "devkit" / "cars_train_annos.mat", {"annotations": train})
    with pytest.raises(Missing, match="cars_test_annos_withlabels"):
        drawn(Cars(root=str(tmp_path / "two"), **SMALL))
    savemat(tmp_path / "two" / "cars_test_annos_withlabels.mat", {"annotations": test})
    all_rows = [(f"car_ims/{i:06d}.jpg", i // 2 + 1) for i in range(392)]
    dtype[0] = ("relative_im_path", object)
    annos = {"annotations": np.array(all_rows, dtype)}
    savemat(tmp_path / "one" / "cars_annos.mat", annos)
    for release in ("one", "two"):
        store, divided = drawn(Cars(root=str(tmp_path / release), **SMALL))
        assert [len(divided[s]) for s in ("train", "validation", "test")] == [98, 49, 49]
        assert [c.name for c in divided["test"]][:2] == ["004", "008"]
        assert store.index.total == 392


def test_flowers(tmp_path):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 103), 2))
    for i, _ in enumerate(labels, start=1):
        noise(tmp_path / "jpg" / f"image_{i:05d}.jpg", i)
    savemat(tmp_path / "imagelabels.mat", {"labels": labels[None]})
    store, divided = drawn(VGGFlower(root=str(tmp_path), **SMALL))
    assert [len(divided[s]) for s in ("train", "validation", "test")] == [71, 15, 16]
    owner = store.index.splits["all"][0]
    first = int(np.flatnonzero(labels == int(owner.name))[0]) + 1
    read = np.asarray(Image.open(tmp_path / "jpg" / f"image_{first:05d}.jpg"))
    assert np.array_equal(store.images[owner.start], read)
    (tmp_path / "jpg" / "image_00007.jpg").unlink()
    with pytest.raises(DamagedFile, match=r"image_00007.jpg, which .*jpg does not have"):
        drawn(VGGFlower(root=str(tmp_path), ways=2, queries=1, image_size=9))


def test_quick_draw(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for c in range(345):
        arrays[f"class {c:03d}"] = rng.integers(0, 256, (4, 784), np.uint8)
        np.save(tmp_path / f"class {c:03d}.npy", arrays[f"class {c:03d}"])
    dataset = QuickDraw(root=str(tmp_path), per_class=3, ways=3, queries=1)
    store, divided = drawn(dataset)
    assert [len(divided[s]) for s in ("train", "validation", "test")] == [241, 52, 52]
    for owner in divided["test"]:
        kept = store.images[owner.start : owner.start + owner.count]
        assert np.array_equal(kept.reshape(3, 784), arrays[owner.name][:3])
    assert drawn(QuickDraw(root=str(tmp_path), ways=3, queries=1))[0].index.total == 345 * 4
    np.save(tmp_path / "class 000.npy", np.zeros((4, 10), np.uint8))
    with pytest.raises(DamagedFile, match=r"class 000.npy .*expected uint8 \[n, 784\]"):
        prepare(dataset.recipe, tmp_path)


def table(path, rows, head=("filename", "label")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def test_ravi_and_larochelle_s_tables(tmp_path):
    wanted = {"train": 4, "val": 3, "test": 3}
    for s, (split, n) in enumerate(wanted.items()):
        rows = []
        for c in range(n):
            for i in range(2):
                name = f"n{s:04d}{c:04d}{i:08d}.jpg"
                noise(tmp_path / "images" / name, len(rows) + 100 * s)
                rows.append((name, f"n{s:04d}{c:04d}"))
        table(tmp_path / f"{split}.csv", rows)
    for cls in (ImageFolder, MiniImageNet):
        _, divided = drawn(cls(root=str(tmp_path), **SMALL))
        assert [len(divided[s]) for s in ("train", "validation", "test")] == [4, 3, 3]
    table(tmp_path / "val.csv", [("../../etc/x.jpg", "a")])
    with pytest.raises(DamagedFile, match=r"val.csv names \.\./\.\./etc/x.jpg"):
        prepare(ImageFolder(root=str(tmp_path), image_size=9).recipe, tmp_path)
    (tmp_path / "val.csv").unlink()
    with pytest.raises(Missing, match=r"not .*val\.csv"):
        prepare(ImageFolder(root=str(tmp_path), image_size=9).recipe, tmp_path)


def test_meta_album(tmp_path):
    rows = []
    for i in range(60):
        noise(tmp_path / "images" / f"BRD_{i:03d}.png", i)
        rows.append((f"BRD_{i:03d}.png", f"bird {i // 3}", "birds"))
    table(tmp_path / "labels.csv", rows, ("FILE_NAME", "CATEGORY", "SUPER_CATEGORY"))
    (tmp_path / "info.json").write_text("{}")
    store, divided = drawn(MetaAlbum(root=str(tmp_path), **SMALL))
    assert store.index.total == 60
    assert [len(divided[s]) for s in ("train", "validation", "test")] == [13, 3, 4]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("head", ["", "label{}file{}more"])
def test_tables_as_people_have_them(tmp_path, separator, head):
    """Without a head, with columns in another order, a mark of bytes, Windows' ends of lines."""
    lines = [head.format(separator, separator)] if head else []
    for i in range(6):
        noise(tmp_path / "images" / "a" / f"{i}.png", i)
        row = [f"{i % 3}", f"a/{i}.png", "x"] if head else [f"a/{i}.png", f"{i % 3}"]
        lines.append(separator.join(row))
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    store = prepare(ImageFolder(root=str(tmp_path), image_size=8).recipe, tmp_path)
    assert [(c.name, c.count) for c in store.index.splits["all"]] == [("0", 2), ("1", 2), ("2", 2)]
    (tmp_path / "labels.csv").write_text("filename,label\n0.png,a\nalone\n")
    with pytest.raises(DamagedFile, match="the line 'alone' has one column"):
        prepare(ImageFolder(root=str(tmp_path), image_size=9).recipe, tmp_path)


def test_broken_pictures_of_tables_are_left_out_too(tmp_path):
    rows = []
    for i in range(30):
        noise(tmp_path / "images" / f"{i}.png", i)
        rows.append((f"{i}.png", f"class {i // 3}"))
    table(tmp_path / "labels.csv", rows)
    (tmp_path / "images" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    store = prepare(ImageFolder(root=str(tmp_path), image_size=8).recipe, tmp_path)
    assert store.index.total == 29
    assert "4.png is not a readable image" in store.index.left_out[0]


CUB_TEST = [
    8,
    9,
    15,
    20,
    28,
    30,
    35,
    39,
    45,
    46,
    82,
    85,
    94,
    101,
    103,
    112,
    118,
    122,
    128,
    133,
    134,
    137,
    147,
    148,
    163,
    168,
    169,
    170,
    193,
    194,
]
CUB_VALIDATION = [
    44,
    51,
    52,
    55,
    57,
    61,
    64,
    66,
    68,
    72,
    76,
    80,
    84,
    96,
    113,
    121,
    127,
    136,
    140,
    145,
    150,
    155,
    159,
    162,
    172,
    176,
    178,
    198,
    199,
    200,
]
