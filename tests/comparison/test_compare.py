"""`binomctl compare` on real runs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from command import binomctl
from scipy import stats

from binomctl.runs.evaluations import SCHEMA


def compared(*args, code=0):
    out, err = binomctl("compare", *args, "--tasks", 40, "--json", code=code)
    return (json.loads(out) if code == 0 else None), err


def scores(run):
    (path,) = (run / "evaluations").glob("test-seed0-40tasks-*")
    record = json.loads(path.read_text())
    assert record["schema"] == SCHEMA
    return np.array(record["scores"])


def test_pairs_are_of_one_seed_and_one_task(folder):
    report, err = compared(folder)
    assert report["reference"] == "maml"
    assert report["seeds"] == [0, 1, 2]
    rows = {pair["label"]: pair for pair in report["pairs"]}
    assert set(rows) == {"maml", "fomaml", "trunc (L = 2)"}
    assert rows["maml"]["difference"] is None
    d = [np.mean(scores(folder / f"fomaml-{s}") - scores(folder / f"maml-{s}")) for s in range(3)]
    first = rows["fomaml"]
    assert first["over"] == "seeds"
    assert first["difference"] == pytest.approx(np.mean(d), rel=1e-12)
    test = stats.ttest_1samp(d, 0.0)
    assert first["ci95"] == pytest.approx(list(test.confidence_interval()))
    assert first["p"] == pytest.approx(test.pvalue)
    assert first["bootstrap95"] is None
    other = rows["trunc (L = 2)"]
    gap = scores(folder / "trunc-0") - scores(folder / "maml-0")
    assert other["over"] == "tasks"
    assert other["pairs"] == 40
    assert other["difference"] == pytest.approx(gap.mean(), rel=1e-12)
    assert other["bootstrap95"][0] < other["difference"] < other["bootstrap95"][1]
    assert max(r["p_holm"] for r in (first, other)) >= max(first["p"], other["p"])
    assert "seeds [1, 2] have no partner" in err
    assert any("no partner" in warning for warning in report["warnings"])


def test_the_scores_are_those_of_eval(folder):
    report, _ = compared(folder / "maml-0", folder / "fomaml-0")
    out, _ = binomctl("eval", folder / "maml-0", "--tasks", 40, "--seed", 0, "--json")
    alone = json.loads(out)
    row = next(pair for pair in report["pairs"] if pair["label"] == "maml")
    assert row["mean"] == pytest.approx(alone["mean"], rel=1e-12)
    assert row["standard_error"] == pytest.approx(alone["standard_error"], rel=1e-12)


def test_kept_scores_are_taken_and_changed_ones_are_not(folder, tmp_path):
    run = shutil.copytree(folder / "fomaml-0", tmp_path / "fomaml-0")
    first, _ = compared(folder / "maml-0", run)
    (path,) = (run / "evaluations").glob("*-40tasks-*")
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"scores": [', b'"scores": [9.5, ', 1))
    assert compared(folder / "maml-0", run)[0]["pairs"] == first["pairs"]
    assert path.read_bytes() == before


def test_a_reference_is_chosen_by_its_run(folder):
    report, _ = compared(folder / "maml-0", folder / "fomaml-0", "--reference",
                         folder / "fomaml-0")  # fmt: skip
    assert report["reference"] == "fomaml"
    _, err = compared(folder / "maml-0", folder / "fomaml-0", "--reference", folder / "trunc-0",
                      code=2)  # fmt: skip
    assert "is not among the runs" in err


def test_the_same_run_twice_is_told_apart_by_its_folder(folder, tmp_path):
    again = shutil.copytree(folder / "maml-0", tmp_path / "again")
    report, _ = compared(folder / "maml-0", again)
    assert [p["label"] for p in report["pairs"]] == ["maml [maml-0]", "maml [again]"]
    assert report["pairs"][1]["verdict"] == "the same scores"


def test_what_cannot_be_compared_is_named(folder, small_run, tmp_path):
    _, err = compared(folder / "maml-0", folder / "maml-1", code=2)
    assert "nothing to compare" in err
    (tmp_path / "empty").mkdir()
    _, err = compared(folder / "maml-0", tmp_path / "empty", code=4)
    assert "nor a folder of runs" in err
    _, err = compared(folder / "maml-1", folder / "trunc-0", code=2)
    assert "have no seed in common: [0] and [1]" in err
    other = tmp_path / "shots"
    binomctl("train", "--estimator", "fomaml", *small_run, "--shots", 7, "--out", other)
    _, err = compared(folder / "maml-0", other, code=2)
    assert "do not meet the same test tasks (dataset.shots is 7 and 10)" in err
    other = tmp_path / "evaluation"
    binomctl("train", "--estimator", "fomaml", *small_run, "--set", "evaluation.shots=7",
             "--out", other)  # fmt: skip
    _, err = compared(folder / "maml-0", other, code=2)
    assert "do not meet the same test tasks (evaluation.shots is " in err


def test_every_run_adapts_for_its_own_steps_or_those_asked(folder, small_run, tmp_path):
    own = tmp_path / "own"
    binomctl("train", "--estimator", "fomaml", *small_run, "--set", "evaluation.steps=1",
             "--out", own)  # fmt: skip
    report, err = compared(folder / "maml-0", own)
    rows = {pair["estimator"]: pair for pair in report["pairs"]}
    assert [rows[name]["adaptation_steps"] for name in ("maml", "fomaml")] == [5, 1]
    assert "protocols adapt for [1, 5] steps" in err
    alone = json.loads(binomctl("eval", own, "--tasks", 40, "--seed", 0, "--json")[0])
    assert rows["fomaml"]["mean"] == pytest.approx(alone["mean"], rel=1e-12)
    report, _ = compared(folder / "maml-0", own, "--steps", 3)
    assert {pair["adaptation_steps"] for pair in report["pairs"]} == {3}


def test_the_table_fits_narrow_and_wide_terminals(folder, monkeypatch):
    for columns in (60, 80, 140):
        monkeypatch.setenv("COLUMNS", str(columns))
        out, _ = binomctl("compare", folder, "--tasks", 40)
        assert max(map(len, out.splitlines())) <= columns
        assert "the reference" in out
        assert "s.e.: standard error" in out
