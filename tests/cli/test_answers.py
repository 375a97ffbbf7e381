"""Wrong inputs are answered as was once read and found good; see answering.py, which rewrites."""

from __future__ import annotations

from pathlib import Path

import pytest
from answering import answer, furnish, kept

KEPT = kept()
CODES = {2, 3, 4, 5, 6, 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("typed").resolve()
    furnish(made)
    return made


def contents(folder: Path) -> set[Path]:
    """What is there, but for prepared data sets, which commands make as they read."""
    return {path for path in folder.rglob("*") if "prepared" not in path.parts}


def test_the_list_is_long_and_whole():
    assert len(KEPT) >= 204
    assert len({row["run"] for row in KEPT}) == len(KEPT)
    words = {row["run"].split()[0] for row in KEPT}
    assert words >= {
        "train", "eval", "adapt", "predict", "export", "error-analysis", "profile", "bounds",
        "data", "sweep", "compare", "report", "plot", "runs", "verify", "config", "plugins",
        "doctor",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.promise(25, fault="hundreds of wrong inputs over all commands")
def test_wrong_inputs_are_answered_as_they_were(folder):
    are_answered_as_they_were(KEPT, folder)


def test_every_fourth_of_them_is(folder):
    are_answered_as_they_were(KEPT[::4], folder)


def are_answered_as_they_were(rows, folder):
    before, wrong = contents(folder), []
    for row in rows:
        code, out, said = answer(row["run"], folder)
        if (code, out, said) != (row["code"], "", row["says"]):
            was = f"was {row['code']}: {row['says']}"
            wrong.append(f"{row['run']}\n  {was}  is {code}: {out}{said}")
    assert not wrong, "\n".join(wrong)
    assert contents(folder) == before


@pytest.mark.parametrize("row", KEPT, ids=lambda row: row["run"])
def test_an_answer_has_its_code_and_a_next_step(row):
    assert row["code"] in CODES
    *_, error, hint = row["says"].splitlines()
    assert error.startswith("error: ")
    assert hint.endswith((".", "=100", "glyphs", "?")) or hint.startswith("Use ")
    assert "Traceback" not in row["says"]
    assert "Errno" not in row["says"]
    assert "Input should" not in row["says"]
