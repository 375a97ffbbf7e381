"""`binomctl predict`: folders of pictures and files of numbers, as people have them."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from command import binomctl
from PIL import Image

QUICK = ["--steps", 2, "--meta-batch", 2, "--K", 2, "--set", "training.validate_every=2",
         "--set", "training.validation_tasks=2", "--set", "model.filters=4",
         "--set", "dataset.image_size=16"]  # fmt: skip
SHOTS = {"circle": 3, "cross": 5, "ring & dot": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    binomctl("train", *QUICK, "--out", path)
    return path


def picture(kind, seed, mode="L"):
    """A shape in 24x24 pixels, white on black."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24] - 11.5 + noise.normal(0, 0.4, (2, 1, 1))
    r = np.hypot(x, y)
    inside = {"circle": r < 7, "cross": (abs(x) < 2) | (abs(y) < 2),
              "ring & dot": ((r > 6) & (r < 9)) | (r < 2)}[kind]  # fmt: skip
    return Image.fromarray(np.where(inside, 230, 10).astype(np.uint8)).convert(mode)


@pytest.fixture
def task(tmp_path):
    """support/<class>/*, query/<class>/*, and flat/*."""
    for kind, shots in SHOTS.items():
        for part, seeds in (("support", range(shots)), ("query", range(50, 54))):
            (tmp_path / part / kind).mkdir(parents=True)
            for seed in seeds:
                picture(kind, seed).save(tmp_path / part / kind / f"{seed}.png")
    (tmp_path / "flat").mkdir()
    for i, kind in enumerate(SHOTS):
        picture(kind, 70 + i, "RGBA").save(tmp_path / "flat" / f"{i}.png")
    return tmp_path


def predicted(run, task, *more, query="query", code=0):
    return binomctl("predict", run, "--support", task / "support", "--query", task / query,
                    *more, code=code)  # fmt: skip


def test_labelled_queries_have_an_accuracy_with_its_interval(run, task):
    out, err = predicted(run, task, "--json", "-o", task / "p.csv", "--sheet", task / "sheet.png",
                         "--steps", 20)  # fmt: skip
    report = json.loads(out)
    assert report["classes"] == sorted(SHOTS)
    assert report["shots"] == dict(sorted(SHOTS.items()))
    assert "every row of the head starts at the mean" in report["head"]
    assert "3 classes" in err
    right = sum(p["label"] == p["true"] for p in report["predictions"])
    n = len(report["predictions"])
    assert (n, report["accuracy"]["n"]) == (12, 12)
    # Wilson's interval by its formula.
    share, z = right / n, 1.959963984540054
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert report["accuracy"]["ci95"] == pytest.approx([middle - half, middle + half])
    assert sum(map(sum, report["confusion"])) == 12
    assert sum(report["confusion"][i][i] for i in range(3)) == right
    rows = list(csv.DictReader((task / "p.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == [p["label"] for p in report["predictions"]]
    assert sum(float(rows[0][c]) for c in report["classes"]) == pytest.approx(1)
    with Image.open(task / "sheet.png") as sheet:
        assert sheet.size[0] > 800
    _, err = predicted(run, task, "-o", task / "p.csv", code=2)
    assert "is there already" in err


def test_pictures_without_labels_and_a_single_one(run, task):
    out, _ = predicted(run, task, "--json", query="flat")
    report = json.loads(out)
    assert len(report["predictions"]) == 3
    assert report["accuracy"] is report["confusion"] is report["predictions"][0]["true"] is None
    out, _ = predicted(run, task, query="flat/0.png")
    assert "1 query, 3 classes" in out


def test_a_camera_held_sideways_is_turned_back(run, task):
    upright = picture("cross", 5)
    upright.paste(0, (0, 0, 24, 9))  # up and down differ
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    folder = task / "turned"
    folder.mkdir()
    upright.save(folder / "a.png")
    upright.rotate(90, expand=True).save(folder / "b.png", exif=exif)
    out, _ = predicted(run, task, "--json", query="turned")
    a, b = (p["probabilities"] for p in json.loads(out)["predictions"])
    assert a == pytest.approx(b, rel=1e-5)


def test_what_is_wrong_with_a_task_is_named(run, task):
    (task / "query" / "square").mkdir()
    picture("cross", 1).save(task / "query" / "square" / "1.png")
    _, err = predicted(run, task, code=3)
    assert "square is no class of the support set" in err
    assert "circle, cross, ring & dot" in err
    (task / "none").mkdir()
    _, err = predicted(run, task, query="none", code=3)
    assert "holds no picture" in err
    _, err = predicted(run, task, query="nowhere", code=3)
    assert "nowhere" in err
    (task / "support" / "cross" / "3.png").write_bytes(b"no picture")
    _, err = predicted(run, task, query="flat", code=3)
    assert "3.png is not a readable image" in err
    (task / "support" / "cross" / "3.png").unlink()
    (task / "support" / "empty").mkdir()
    _, err = predicted(run, task, "-o", task / "p.csv", query="flat", code=3)
    assert "no picture in empty" in err
    one = task / "one" / "support"
    (one / "circle").mkdir(parents=True)
    picture("circle", 1).save(one / "circle" / "1.png")
    _, err = binomctl("predict", run, "--support", one, "--query", task / "flat", code=3)
    assert "one class, circle" in err
    assert not (task / "p.csv").exists()


def test_numbers_from_csv_files(tmp_path):
    run = tmp_path / "run"
    binomctl("train", "--dataset", "sinusoid", "--steps", 2, "--meta-batch", 2,
             "--set", "training.validate_every=2", "--set", "training.validation_tasks=2",
             "--out", run)  # fmt: skip
    (tmp_path / "support.csv").write_text("x,y\n0,0\n1,0.84\n2,0.91\n-1,-0.84\n")
    (tmp_path / "query.csv").write_text("0.5\n1.5\n")
    (tmp_path / "known.csv").write_text("x,y\n0.5,0.48\n1.5,1.0\n")
    out, _ = predicted_numbers(run, tmp_path, "query.csv", "--json", "-o", tmp_path / "p.csv")
    report = json.loads(out)
    assert report["mse"] is None
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [float(row["y0"]) for row in rows] == [p["value"][0] for p in report["predictions"]]
    out, _ = predicted_numbers(run, tmp_path, "known.csv", "--json")
    known = json.loads(out)
    values = [p["value"][0] for p in known["predictions"]]
    assert values == [p["value"][0] for p in report["predictions"]]
    assert known["mse"] == pytest.approx(np.mean(np.subtract(values, [0.48, 1.0]) ** 2))
    (tmp_path / "query.csv").write_text("x\n0.5\nhalf\n")
    _, err = predicted_numbers(run, tmp_path, "query.csv", code=3)
    assert "query.csv:3: half are not all numbers" in err
    (tmp_path / "query.csv").write_text("1,2,3\n")
    _, err = predicted_numbers(run, tmp_path, "query.csv", code=3)
    assert "query.csv:1: 3 columns, expected 1 or 2" in err


def predicted_numbers(run, folder, query, *more, code=0):
    return binomctl("predict", run, "--support", folder / "support.csv", "--query", folder / query,
                    *more, code=code)  # fmt: skip
