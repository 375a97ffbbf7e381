"""Georgian letters from typefaces outside the data set: pictures for `binomctl predict`.

    python benchmarks/georgian.py FOLDER [--fonts DIR ...] [--runs RUN ...]
    binomctl predict RUN --support FOLDER/support --query FOLDER/query --invert --sheet sheet.png

With --runs, that command after 5, 10 and 20 steps for every run, kept in results/georgian.json, and
the first run's sheet after 20 steps in docs/figures/georgian.png.

Seven letters, black on white, 3 to 6 examples each in FOLDER/support/<letter>, three others each in
FOLDER/query/<letter>, every picture of another typeface. Debian's fonts-bpg-georgian and
fonts-noto-core have them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from binomctl.machine.environment import environment
from binomctl.runs import RunDirectory

LETTERS = {"ani": "ა", "bani": "ბ", "gani": "გ", "doni": "დ", "eni": "ე", "vini": "ვ", "zeni": "ზ"}
SHOTS = (3, 4, 5, 6, 3, 4, 5)
QUERIES = 3
STEPS = (5, 10, 20)
PLACES = ("/usr/share/fonts/truetype/fonts-bpg-georgian", "/usr/share/fonts/truetype/noto")
SIZE = 96


def typefaces(folders: list[Path]) -> list[Path]:
    """Files whose typeface has all the letters, each drawn differently, by name."""
    from fontTools.ttLib import TTFont

    found = []
    for path in sorted(p for folder in folders for p in folder.glob("*.ttf")):
        if "noto" in str(path) and "Georgian-Regular" not in path.name:
            continue
        if "CAPS" in path.stem.upper():  # capitals are other letters
            continue
        covered = TTFont(path, lazy=True).getBestCmap()
        if all(ord(letter) in covered for letter in LETTERS.values()):
            found.append(path)
    return found


def draw(letter: str, typeface: Path) -> Image.Image:
    """Black on white, in the middle."""
    font = ImageFont.truetype(str(typeface), round(0.75 * SIZE))
    picture = Image.new("L", (SIZE, SIZE), 255)
    left, top, right, bottom = font.getbbox(letter)
    place = ((SIZE - right - left) / 2, (SIZE - bottom - top) / 2)
    ImageDraw.Draw(picture).text(place, letter, fill=0, font=font)
    return picture


def main() -> None:
    """Write the two folders."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--fonts", type=Path, nargs="*", default=[Path(p) for p in PLACES])
    options.add_argument("--runs", type=Path, nargs="*", default=[])
    given = options.parse_args()
    faces = typefaces(given.fonts)
    need = max(SHOTS) + QUERIES
    if len(faces) < need:
        raise SystemExit(f"{len(faces)} typefaces with Georgian letters, {need} are needed")
    for number, ((name, letter), shots) in enumerate(zip(LETTERS.items(), SHOTS, strict=True)):
        # Another order for every letter: no class has typefaces of its own.
        order = [faces[(5 * i + 3 * number) % len(faces)] for i in range(len(faces))]
        order = list(dict.fromkeys(order + faces))
        for part, chosen in (("support", order[:shots]), ("query", order[shots : shots + QUERIES])):
            place = given.folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            for face in chosen:
                draw(letter, face).save(place / f"{face.stem}.png")
    print(f"{len(faces)} typefaces, wrote {given.folder}")
    if given.runs:
        measure(given.runs, given.folder, [face.name for face in faces])


def measure(runs: list[Path], folder: Path, faces: list[str]) -> None:
    """Predict with every run and keep what came of it."""
    root = Path(__file__).parents[1]
    rows = []
    for run in runs:
        for steps in STEPS:
            command = ["predict", run, "--support", folder / "support", "--query", folder / "query",
                       "--invert", "--steps", steps, "--json"]  # fmt: skip
            if run == runs[0] and steps == STEPS[-1]:
                command += ["--sheet", root / "docs/figures/georgian.png", "--force"]
            words = [sys.executable, "-m", "binomctl", *map(str, command)]
            found = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
            config = RunDirectory.open(run).config()
            rows.append({"run": run.name, "seed": config.seed, "steps": steps,
                         "accuracy": found["accuracy"], "confusion": found["confusion"],
                         "config": config.model_dump(mode="json")})  # fmt: skip
            print(run.name, steps, found["accuracy"])
    result = {"schema": "binomctl/georgian/1", "environment": environment(), "typefaces": faces,
              "letters": LETTERS, "shots": SHOTS, "rows": rows}  # fmt: skip
    path = root / "benchmarks" / "results" / "georgian.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
