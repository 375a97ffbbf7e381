"""The commands: streams, exit codes, run folders; as real processes where that could matter."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml
from command import here
from command import in_a_process as binomctl

SMALL = ["--dataset", "sinusoid", "--steps", "6", "--meta-batch", "3"]
SMALL += ["--set", "training.validate_every=3", "--set", "training.validation_tasks=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    done = binomctl("train", *SMALL, "--estimator", "binom", "--L", 2, "--out", folder, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_train_leaves_a_whole_run_folder(run):
    folder, report = run
    assert set(report) == {
        "schema", "run", "steps", "seconds", "skipped", "stopped_early", "estimator", "statistics",
        "best",
    }  # fmt: skip
    assert set(report["best"]) == {"step", "metric", "unit", "value"}
    assert report["steps"] == 6
    assert json.loads((folder / "report.json").read_text()) == report
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["estimator"] == {"name": "binom", "L": 2, "alpha_scaling": "none"}
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [3, 6]
    assert {"train_loss", "train_mse", "validation_mse", "seconds"} <= set(records[0])
    index = json.loads((folder / "checkpoints" / "index.json").read_text())
    assert index["last"] == "step-00000006"


def test_eval_prints_one_object_with_its_interval(run):
    folder, _ = run
    done = here("eval", folder, "--tasks", 8, "--steps", 3, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["n"] == 8
    assert result["adaptation_steps"] == 3
    assert {"schema", "run", "split", "metric", "mean", "ci95", "ways", "shots", "queries"} <= set(
        result
    )
    shown = here("eval", folder, "--tasks", 8, COLUMNS="40")
    assert "95%" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 40


def test_same_seed_same_numbers(run, tmp_path):
    _, report = run
    done = binomctl("train", *SMALL, "--out", tmp_path / "again", "--json")
    assert json.loads(done.stdout)["best"] == report["best"]


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["train", "--estimator", "bino"], 2, "Did you mean 'binom'"),
        (["train", "--estimator", "maml", "--L", "2"], 2, "unknown option 'L'"),
        (["train", "--L", "7"], 2, "greater than K = 5"),
        (["train", "--L", "-1"], 2, "negative"),
        (["train", "--alpha", "0"], 2, "adaptation.alpha"),
        (["train", "--alpha", "nan"], 2, "finite"),
        (["train", "--ways", "500"], 3, "500 classes"),
        (["train", "--shots", "12"], 3, "images per class"),
        (["train", "--dataset", "glyph"], 2, "Did you mean 'glyphs'"),
        (["train", "--set", "training.step=3"], 2, "Did you mean 'training.steps'"),
        (["eval", "nowhere"], 4, "no run at nowhere"),
        (["eval", "."], 4, "is not a run of binomctl"),
    ],
    ids=lambda v: "_".join(v) if isinstance(v, list) else None,
)
def test_mistakes_are_worded_and_have_their_code(args, code, word):
    done = here(*args)
    assert done.returncode == code
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not os.path.exists("runs")


def test_a_run_folder_is_never_overwritten(run):
    folder, report = run
    done = binomctl("train", *SMALL, "--out", folder)
    assert done.returncode == 2
    assert "never overwrites" in done.stderr
    assert json.loads((folder / "report.json").read_text()) == report


def test_a_damaged_checkpoint_is_refused_by_name(run, tmp_path):
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-r", run[0], folder], check=True)
    for path in (folder / "checkpoints").glob("step-*/model.safetensors"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    done = here("eval", folder, "--tasks", 4)
    assert done.returncode == 4
    assert "model.safetensors is damaged" in done.stderr


def test_plugins_lists_options_with_their_docs():
    done = here("plugins", COLUMNS="120")
    assert done.returncode == 0
    for word in ("binom", "trunc", "alpha_scaling", "glyphs", "sinusoid", "gd"):
        assert word in done.stdout


def test_config_diff_names_what_differs_between_protocols_and_runs(run):
    folder, _ = run
    configs = os.path.join(os.path.dirname(__file__), "..", "..", "configs")
    finn, binom = (os.path.join(configs, f"{n}.yaml") for n in ("finn2017", "binom2026"))
    done = here("config", "diff", finn, binom, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["differences"]
    assert found["training.clip_value"] == {"a": 10.0, "b": None}
    assert found["estimator.L"] == {"a": "(absent)", "b": 2}
    assert "adaptation.K" not in found
    shown = here("config", "diff", finn, folder, COLUMNS="40")
    assert "dataset.name" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 40
    assert here("config", "diff", finn, finn).stdout.strip() == "no difference"
    assert here("config", "diff", finn, "nowhere.yaml").returncode == 2
    assert here("config", "diff", finn, configs).returncode == 4


def test_evaluation_says_which_statistics_and_which_interval(run):
    folder, _ = run
    result = json.loads(here("eval", folder, "--tasks", 8, "--json").stdout)
    assert result["statistics"] is None
    assert result["interval"] == "student"
    assert result["standard_error"] < result["ci95"]
