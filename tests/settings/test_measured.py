"""What an analysis and a profile start from where nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from binomctl.errors import CheckpointError
from binomctl.settings import measured
from binomctl.settings.layers import load_config
from binomctl.settings.measured import settings_of


def test_every_section_has_defaults_of_its_own_below_what_is_said(monkeypatch):
    analysis, _ = settings_of("analysis", None, {})
    assert (analysis.dataset.name, analysis.dtype) == ("sinusoid", "float64")
    profile, _ = settings_of("profile", [], {"device": "cpu"})
    assert (profile.dataset.name, profile.profile.seconds) == ("glyphs", 2.0)
    monkeypatch.setattr(measured, "choose_device", lambda name: torch.device("cuda"))
    gpu, _ = settings_of("profile", None, {})
    assert gpu.dataset.name == "random-images"
    said, places = settings_of("profile", None, {"dataset.name": "glyphs"})
    assert said.dataset.name == "glyphs"
    assert places["dataset.name"]
    assert settings_of("analysis", None, {})[0] == analysis  # the device is the profile's affair


def test_a_run_keeps_what_it_was_trained_with():
    own, _ = load_config(overrides={"dataset.name": "sinusoid", "adaptation.K": 3})
    run = (Path("runs/one"), own)
    settings, _ = settings_of("analysis", None, {"adaptation.alpha": 0.5}, None, run)
    assert (settings.adaptation.K, settings.adaptation.alpha) == (3, 0.5)
    assert (settings.training.meta_batch, settings.dtype) == (10, "float64")
    with pytest.raises(CheckpointError, match=r"trained with rule\.name = gd, not anil"):
        settings_of("analysis", None, {"rule.name": "anil"}, None, run)
    with pytest.raises(CheckpointError, match="trained with model"):
        settings_of("analysis", None, {}, ["model.width=9"], run)
