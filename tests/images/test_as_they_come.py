"""Folders of pictures as people have them: every file is taken, or told of."""

from __future__ import annotations

import json
import shlex
import shutil

import layouts
import numpy as np
import pytest
from command import binomctl, in_a_process
from PIL import Image

from binomctl.images.duplicates import difference_hashes, twice
from binomctl.images.sources import Shape, SourceClass, pixels
from binomctl.images.store import ClassInfo

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
QUICK = ["--steps", 1, "--meta-batch", 1, "--K", 2, "--set", "training.validate_every=1", "--set",
         "training.validation_tasks=2", "--set", "model.filters=2", "--set", "dataset.queries=2",
         "--ways", 2, "--set", "dataset.image_size=16"]  # fmt: skip


def read(path, mode="RGB", size=None):
    return pixels(SourceClass("a", [path], path.parent), 0, Shape(mode, size), False)


def test_16_bits_become_8(tmp_path):
    deep = (PIXELS[:, :, 0].astype(np.uint16) * 257).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        assert np.array_equal(read(tmp_path / name, "L")[:, :, 0], PIXELS[:, :, 0])
    Image.fromarray(PIXELS[:, :, 0].astype(np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(Exception, match="floating pixels"):
        read(tmp_path / "f.tif")


def test_what_is_transparent_lies_on_white(tmp_path):
    colour = np.dstack([PIXELS, np.zeros((12, 12), np.uint8)])
    colour[:6, :, 3] = 255
    Image.fromarray(colour).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert np.array_equal(found[:6], PIXELS[:6])
    assert (found[6:] == 255).all()


def test_palettes_greys_cmyk_and_animations(tmp_path):
    image = Image.fromarray(PIXELS)
    image.convert("P", palette=Image.Palette.ADAPTIVE, colors=200).save(tmp_path / "p.png")
    assert np.abs(read(tmp_path / "p.png").astype(int) - PIXELS).mean() < 20
    flat = Image.new("CMYK", (12, 12), (0, 255, 255, 0))
    flat.save(tmp_path / "c.jpg", quality=100)
    assert np.abs(read(tmp_path / "c.jpg").mean((0, 1)) - [255, 0, 0]).max() < 12
    frames = [Image.new("RGB", (12, 12), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert tuple(read(tmp_path / "a.gif")[0, 0]) == (255, 0, 0)
    assert read(tmp_path / "p.png", "L").shape == (12, 12, 1)


@pytest.fixture
def root(tmp_path):
    """{train,val,test}/<class>/*, three classes of six pictures in each."""
    layouts.split_noise(tmp_path / "data", 3, 6, (16, 16, 3))
    return tmp_path / "data"


def prepared(root, code=0):
    return binomctl("data", "prepare", "image-folder", "--root", root, "--json", code=code)


def checked(root, code=0):
    out, err = binomctl("data", "verify", "image-folder", "--root", root, "--json", code=code)
    return json.loads(out), err


def test_folders_that_are_no_classes_and_files_that_are_not_read(root):
    (root / "test" / "empty").mkdir()
    (root / "test" / "nested" / "more").mkdir(parents=True)
    shutil.copy(root / "test" / "test0" / "0.png", root / "test" / "nested" / "more" / "0.png")
    (root / "val" / "phone").mkdir()
    (root / "val" / "phone" / "a.heic").write_bytes(b"heic")
    (root / "train" / "train1" / "b.heic").write_bytes(b"heic")
    (root / "train" / "train1" / "Thumbs.db").write_bytes(b"thumbs")
    (root / "train" / "train1" / ".DS_Store").write_bytes(b"finder")
    shutil.move(root / "train" / "train1" / "1.png", root / "train" / "train1" / "1.PNG")
    Image.new("RGB", (16, 16), "red").save(root / "train" / "train2" / "x.jfif", "JPEG")
    out, err = prepared(root)
    assert json.loads(out)["splits"]["train"]["images"] == 19
    for line in (
        "empty is no class: it is empty",
        "nested is no class: its 1 images lie one level deeper, in more",
        "phone is no class: 1 file (.heic), of a kind that is not read",
        "train1: 1 file (.heic) left out",
    ):
        assert line in err
    assert "Thumbs" not in err
    assert "DS_Store" not in err
    assert len(checked(root)[0]["left_out"]) == 4


def test_broken_pictures_are_left_out_and_listed(root):
    for name in ("test/test0/1.png", "train/train2/4.png"):
        (root / name).write_bytes((root / name).read_bytes()[:40])
    for path in (root / "val" / "val2").iterdir():
        path.write_bytes(b"none of them")
    out, err = prepared(root)
    splits = json.loads(out)["splits"]
    assert splits["train"] == {"classes": 3, "images": 17}
    assert splits["test"] == {"classes": 3, "images": 17}
    assert splits["validation"] == {"classes": 2, "images": 12}
    assert "left out:" in err
    assert "test0/1.png is not a readable image" in err
    assert "class 'val2' of split 'validation' has no readable image" in err
    assert (root / "test/test0/1.png").exists()  # a user's file stays where it is
    for path in (root / "train").glob("*/*.png"):
        path.write_bytes(b"none at all")
    for path in (root / "test").glob("*/*.png"):
        path.write_bytes(b"none at all")
    _, err = prepared(root, code=3)
    assert "is not a readable image" in err


def test_classes_with_too_few_images_are_named(root):
    for i in range(4):
        (root / "test" / "test1" / f"{i}.png").unlink()
    run = root.parent / "run"
    _, err = binomctl("train", "--dataset", "image-folder", "--root", root, *QUICK, "--out", run)
    for said in (err, in_a_process("eval", run, "--tasks", 2).stderr):
        assert "1 of 3 classes of split 'test' have fewer than 3 images" in said
        assert "test1 (2)" in said


def test_leaks_and_pictures_that_occur_twice(root):
    shutil.copy(root / "train" / "train0" / "0.png", root / "test" / "test1" / "renamed.png")
    shutil.copy(root / "val" / "val0" / "0.png", root / "val" / "val0" / "again.png")
    with Image.open(root / "train" / "train2" / "3.png") as image:
        lighter = image.point(lambda value: min(value + 1, 255))
        lighter.save(root / "test" / "test2" / "near.png")
    _, err = prepared(root)
    assert "of class 'test1' of split 'test' is picture 0 of class 'train0' of split 'train'" in err
    assert "class 'val0' of split 'validation' has a picture twice: 0 and 6" in err
    result, err = checked(root, code=3)
    assert "of split 'train' too" in result["broken"][0]
    assert any("is nearly picture 3 of class 'train2'" in line for line in result["noted"])
    assert "is picture 0 of class 'train0'" in err


def test_hashes_by_hand():
    """A ramp is darker to the right at no place, a falling one at all 64."""
    ramp = np.broadcast_to(np.arange(18, dtype=np.uint8)[None, :, None], (16, 18, 1))
    rising, falling = difference_hashes(np.stack([ramp, ramp[:, ::-1]]))
    assert rising == 0
    assert falling == 2**64 - 1
    assert len(difference_hashes(np.zeros((0, 16, 16, 1), np.uint8))) == 0
    small = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3)).astype(np.uint8)
    splits = {"train": (ClassInfo("a", 0, 2),), "test": (ClassInfo("b", 2, 2),)}
    found = twice(small, splits)
    assert not found.leaks
    small[3] = small[0]
    assert len(twice(small, splits).leaks) == 1


def test_files_that_changed_after_preparing_are_noticed(root):
    prepared(root)
    shutil.copy(root / "train" / "train0" / "0.png", root / "train" / "train0" / "new.png")
    Image.new("RGB", (16, 16), "red").save(root / "test" / "test0" / "0.png")
    out, err = prepared(root)
    assert "has changed since it was prepared: it is prepared again" in err
    assert json.loads(out)["splits"]["train"]["images"] == 19
    training = ("train", "--dataset", "image-folder", "--root", root, *QUICK, "--dry-run")
    _, err = binomctl(*training)
    assert "has changed" not in err
    Image.new("RGB", (16, 16), "blue").save(root / "val" / "val0" / "7.png")
    _, err = binomctl(*training)
    assert "has changed since it was prepared: it is prepared again" in err


def test_a_division_that_is_no_file_is_told_what_one_is(tmp_path):
    layouts.noise_folders(tmp_path / "photos", {f"class{c}": 2 for c in range(6)}, (16, 16, 3))
    _, err = binomctl("train", "--dataset", "image-folder", "--root", tmp_path / "photos", "--set",
                      "dataset.split_file=nosuch.yaml", code=2)  # fmt: skip
    assert "--set dataset.split_file=nosuch.yaml: cannot read" in err
    assert "It is YAML or JSON: {train: [class, ...]" in err


def test_a_prepared_form_among_class_folders_is_no_class(root):
    """One that a training on the same folders has left there."""
    binomctl("train", "--dataset", "image-folder", "--root", root, *QUICK, "--out", "run")
    support, query = root / "train", root / "train" / "train0"
    (support / "prepared").mkdir()
    out, _ = binomctl("predict", "run", "--support", support, "--query", query, "--json")
    assert set(json.loads(out)["classes"]) == {"train0", "train1", "train2"}


@pytest.mark.parametrize(
    ("classes", "images", "said", "options"),
    [
        (10, 8, "train 6 classes, validation 2 classes, test 2 classes",
         ["dataset.ways=2", "dataset.queries=7"]),
        (30, 20, "train 19 classes, validation 5 classes, test 6 classes", []),
        (6, 20, "train 4 classes, validation 1 class, test 1 class: a task needs two", None),
    ],
)  # fmt: skip
def test_preparing_says_how_classes_are_divided_and_what_can_be_trained(
    tmp_path, classes, images, said, options
):
    layouts.noise_folders(tmp_path, {f"class{c}": images for c in range(classes)}, (16, 16, 3))
    out, _ = binomctl("data", "prepare", "image-folder", "--root", tmp_path)
    text = " ".join(out.split())
    assert said in text
    then = text.rpartition(" next")[2].strip(" :")
    if options is None:
        assert "split_file" in then
        return
    words = shlex.split(then)
    assert [w for w in words if w.startswith("dataset.")] == options
    few = ["--steps", "1", "--set", "training.validation_tasks=2", "--set", "model.filters=2"]
    binomctl(*words[1:], *few, "--out", tmp_path / "run")
    binomctl("eval", tmp_path / "run", "--tasks", 2)
