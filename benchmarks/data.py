"""Image data: converting tieredImageNet, opening it, and drawing a meta-batch from it.

    python benchmarks/data.py [--images 779165] [--folder DIR] [--output FILE]

No published image may be had here, so files of tieredImageNet's layout, number of images, number of
classes and about its size are made of generated pictures, converted by `binomctl data prepare` in a
process of its own whose peak resident set is read from outside, opened in fresh processes, and
drawn from: 4 tasks, 5-way, 5 + 15 images of 84x84, on one thread. Needs 30 GB of disk for all
779,165 images. Writes benchmarks/results/data.json.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from binomctl.machine.environment import environment

RESULT = Path(__file__).parent / "results" / "data.json"
SPLITS = {"train": (351, 448_695), "val": (97, 124_261), "test": (160, 206_209)}
DISTINCT = 3000  # generated pictures; the files hold them again and again
DRAW = """
import json, sys, time, statistics
import numpy as np, torch
torch.set_num_threads(1)
from binomctl.episodes import EpisodeBatch
from binomctl_datasets.tiered_imagenet import TieredImageNet
start = time.perf_counter()
data = TieredImageNet(root=sys.argv[1], ways=5, shots=5, queries=15)
data.in_shape
opened = time.perf_counter() - start
import dataclasses
out = {"open_seconds": opened}
for name, change in (("ms", {}), ("flip_crop_ms", {"flip": True, "crop": 8}),
                     ("flip_crop_turn_ms", {"flip": True, "crop": 8, "turn": True})):
    varied, times = dataclasses.replace(data, **change), []
    for step in range(300):
        begin = time.process_time()
        EpisodeBatch.stack(varied.episode("train", i) for i in range(4 * step, 4 * step + 4))
        times.append(1000 * (time.process_time() - begin))
    out |= {name: times[100:]}
    out.setdefault("first_ms", times[0])
print(json.dumps(out))
"""


def pictures(n: int) -> list[np.ndarray]:
    """PNG files of smooth shapes with grain, about as large as photographs of 84x84 become."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(n):
        coarse = random.integers(0, 256, (7, 7, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((84, 84), Image.Resampling.BICUBIC))
        grain = random.normal(0, 6, (84, 84, 3))
        out = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(out, "PNG")
        files.append(np.frombuffer(out.getvalue(), np.uint8))
    return files


def write(folder: Path, share: float) -> int:
    """The six files of tieredImageNet, or a share of each; returns their bytes."""
    folder.mkdir(parents=True)
    files = pictures(DISTINCT)
    offset = 0
    for split, (classes, images) in SPLITS.items():
        count = max(classes * 20, round(images * share))
        labels = np.sort(np.arange(count) % classes)
        names = [f"n{offset + c:08d}" for c in range(classes)]
        record = {"label_specific": labels, "label_specific_str": names}
        (folder / f"{split}_labels.pkl").write_bytes(pickle.dumps(record, 2))
        # No two splits have a class of the very same images: a different stride for each.
        stride = {"train": 1, "val": 7, "test": 11}[split]
        rows = [files[(offset + stride * i) % DISTINCT] for i in range(count)]
        with (folder / f"{split}_images_png.pkl").open("wb") as file:
            pickler = pickle.Pickler(file, 4)
            pickler.fast = True  # every image is written out, also one that was written before
            pickler.dump(rows)
        offset += classes
    return sum(p.stat().st_size for p in folder.iterdir())


def spread(values: list[float]) -> dict[str, float]:
    low, high = np.percentile(values, [10, 90])
    return {"median": round(statistics.median(values), 3), "p10": round(float(low), 3),
            "p90": round(float(high), 3)}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=779_165)
    options.add_argument("--folder", type=Path, default=None)
    options.add_argument("--output", type=Path, default=RESULT)
    given = options.parse_args()
    share = given.images / 779_165
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        size = write(folder / "tiered-imagenet", share)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "binomctl", "data", "prepare", "tiered-imagenet", "--root",
             str(folder), "--json"], capture_output=True, text=True, check=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        made = json.loads(done.stdout)
        images = sum(s["images"] for s in made["splits"].values())
        drawn = [
            json.loads(subprocess.run([sys.executable, "-c", DRAW, str(folder)],
                                      capture_output=True, text=True, check=True).stdout)
            for _ in range(5)
        ]  # fmt: skip
        report: dict[str, Any] = {
            "schema": "binomctl/data/1",
            "environment": environment(),
            "images": images,
            "source_bytes": size,
            "prepare": {
                "seconds": round(seconds, 1),
                "images_per_second": round(images / seconds),
                "peak_resident_bytes": peak,
            },
            "open_seconds": spread([d["open_seconds"] for d in drawn]),
            "draw_cpu_ms": spread([ms for d in drawn for ms in d["ms"]]),
            "draw_flip_crop_cpu_ms": spread([ms for d in drawn for ms in d["flip_crop_ms"]]),
            "draw_flip_crop_turn_cpu_ms": spread(
                [ms for d in drawn for ms in d["flip_crop_turn_ms"]]
            ),
            "first_draw_cpu_ms": spread([d["first_ms"] for d in drawn]),
        }
    finally:
        shutil.rmtree(folder)
    given.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
