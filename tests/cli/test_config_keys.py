"""`binomctl config keys`, `config show`, shell completion, and the forecast of a dry run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from command import binomctl

from binomctl.settings.config import Config
from binomctl.settings.keys import keys


def test_every_key_is_listed_and_can_be_set():
    listed = {key.name: key for key in keys()}
    for section, field in Config.model_fields.items():
        default = field.get_default(call_default_factory=True)
        names = getattr(type(default), "model_fields", None)
        own = [f"{section}.{n}" for n in names] if names else [section]
        for name in own:
            assert name in listed or f"{name}.name" in listed, name
    assert listed["training.meta_lr"].default == 1e-3
    assert listed["dataset.ways"].of == "glyphs"
    assert all(key.doc for key in listed.values()), [k for k, v in listed.items() if not v.doc]
    out, _ = binomctl("config", "keys", "momentum", "--json")
    assert [k["name"] for k in json.loads(out)["keys"]] == [
        "adaptation.optimizer.momentum", "adaptation.optimizer.nesterov"
    ]  # fmt: skip
    out, _ = binomctl("config", "keys", "--model", "wrn28")
    assert "model.widen " in out
    _, err = binomctl("config", "keys", "--model", "conv5", code=2)
    assert "Did you mean 'conv4'" in err


def test_where_each_value_is_from(tmp_path):
    (tmp_path / "own.yaml").write_text("adaptation: {K: 3}\nestimator: trunc\n")
    out, _ = binomctl("config", "show", tmp_path / "own.yaml", "--dataset", "sinusoid", "--set",
                      "estimator.L=1", "--json")  # fmt: skip
    found = json.loads(out)["keys"]
    assert found["adaptation.K"] == {"value": 3, "origin": f"{tmp_path / 'own.yaml'}:1"}
    assert found["estimator.name"]["origin"] == f"{tmp_path / 'own.yaml'}:2"
    assert found["estimator.L"] == {"value": 1, "origin": "--set estimator.L=1"}
    assert found["dataset.name"]["origin"] == "--dataset"
    assert found["model.name"] == {
        "value": "mlp", "origin": "recommended by the data set or the estimator"
    }  # fmt: skip
    assert found["training.clip_norm"] == {"value": None, "origin": "default"}
    out, _ = binomctl("config", "show", tmp_path / "own.yaml", "--changed")
    assert "clip_norm" not in out
    assert "own.yaml:1" in out


def test_a_shell_completes_names_and_keys():
    def completed(*words):
        env = {**os.environ, "_BINOMCTL_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words),
               "COMP_CWORD": str(len(words) - 1)}  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "binomctl"], env=env, capture_output=True,
                              text=True, timeout=120, check=False)  # fmt: skip
        return done.stdout.split()

    assert "binom" in completed("binomctl", "train", "--estimator", "bi")
    assert "training.meta_lr=" in completed("binomctl", "train", "--set", "training.meta_l")
    assert "error-analysis" in completed("binomctl", "err")


@pytest.mark.parametrize("dataset", ["glyphs", "sinusoid"])
def test_a_dry_run_says_shapes_time_and_memory(dataset, tmp_path):
    out, _ = binomctl("train", "--dry-run", "--dataset", dataset, "--meta-batch", 2, "--steps", 100,
                      "--json", "--set", "training.validate_every=50")  # fmt: skip
    found = json.loads(out)
    assert found["task"]["x_trn"] == {"glyphs": [5, 1, 28, 28], "sinusoid": [10, 1]}[dataset]
    told = found["forecast"]
    assert told["validations"] == 2
    whole = 100 * told["step_ms"] / 1e3 + 2 * told["validation_s"]
    assert told["seconds"] == pytest.approx(whole)
    assert min(told["step_ms"], told["memory_bytes"]) > 0
    text, _ = binomctl("train", "--dry-run", "--dataset", dataset, "--meta-batch", 2)
    assert "forecast: " in text
    assert "a task: x_trn" in text
