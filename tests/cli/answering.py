"""Wrong inputs and their answers, answers.yaml, and the folder that they are typed in.

    PYTHONPATH=tests python tests/cli/answering.py

types every input of the list again and writes down what is answered now. To be called after an
intended change of a message; then read the difference as whoever made the mistake would.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from command import binomctl, here
from PIL import Image

LIST = Path(__file__).with_name("answers.yaml")
NOTES = ("measuring how convolutions",)  # said on a machine that has not measured them yet
PLACE = "FOLDER"  # stands for the folder in what is answered

FILES = {
    "notes.txt": "not a configuration: [",
    "empty.yaml": "",
    "typo.yaml": "training:\n  step: 3\n",
    "section.yaml": "trainning:\n  steps: 3\n",
    "twice.yaml": "seed: 1\nseed: 2\n",
    "tag.yaml": "seed: !!python/object/apply:os.getcwd []\n",
    "word.yaml": "training:\n  steps: many\n",
    "list.yaml": "- 1\n- 2\n",
    "nan.yaml": "adaptation:\n  alpha: .nan\n",
    "good.yaml": "adaptation:\n  K: 3\n",
    "grid.yaml": "common: {dataset: sinusoid}\ngrid:\n  estimator.nome: [binom]\n",
    "cells.yaml": "common: {dataset: sinusoid}\nmethods:\n  - estimator: binom\n",
    "short.csv": "1,2,3\n4,5\n",
    "words.csv": "a,b\nc,d\n",
    "numbers.csv": "0.1,0.2\n0.3,0.4\n",
    "broken.json": '{"schema": "binomctl/bounds/1", ',
    "other.json": '{"schema": "somebody/else/1"}',
    "there.png": "",
    "there.csv": "",
}
PICTURES = {"photos/a": (0, 40), "photos/b": (80, 120), "one/a": (0,), "pair/a": (0, 40),
            "pair/b": (80, 120)}  # fmt: skip
TINY = ["--steps", 2, "--meta-batch", 1, "--set", "training.validation_tasks=2"]


def furnish(folder: Path) -> None:
    """Runs, an adapted network, pictures and files, good and bad ones."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "empty").mkdir()
    for name, levels in PICTURES.items():
        (folder / name).mkdir(parents=True)
        for level in levels:
            Image.new("L", (28, 28), level).save(folder / name / f"{level}.png")
    with contextlib.chdir(folder):
        binomctl("train", "--dataset", "sinusoid", *TINY, "--out", "waves")
        binomctl("train", "--dataset", "glyphs", *TINY, "--out", "letters",
                 "--set", "model.filters=4", "--ways", 2)  # fmt: skip
        binomctl("adapt", "waves", "--support", "numbers.csv", "-o", "adapted")
        shutil.copytree("waves", "damaged")
        for path in Path("damaged", "checkpoints").glob("step-*/model.safetensors"):
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
        shutil.copytree("waves", "edited")
        with Path("edited", "config.yaml").open("a") as file:
            file.write("\n")


def answer(words: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command typed in the folder."""
    with contextlib.chdir(folder):
        done = here(*shlex.split(words), BINOMCTL_DATA="", COLUMNS="80")
    said = "".join(
        line for line in done.stderr.splitlines(keepends=True) if not line.startswith(NOTES)
    )
    return done.returncode, done.stdout, said.replace(str(folder), PLACE)


def kept() -> list[dict[str, Any]]:
    """The list: "run" what is typed, "code" the exit code, "says" what stderr has."""
    found: list[dict[str, Any]] = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return found


class _Block(str):
    """A text that is written as lines."""


def _lines(dumper: yaml.SafeDumper, text: _Block) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


yaml.SafeDumper.add_representer(_Block, _lines)


def rewrite() -> None:
    """The list anew, by what is answered now."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        furnish(folder)
        rows = []
        for words in dict.fromkeys(row["run"] for row in kept()):
            code, out, said = answer(words, folder)
            rows.append({"run": words, "code": code, "says": _Block(said)})
            if out or not code:
                sys.exit(f"{words}: is answered on stdout, or no mistake: {code} {out}{said}")
    text = yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=1000)
    LIST.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rewrite()
