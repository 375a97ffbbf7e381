"""docs/configuration.md lists every key, model, plugin and option with its default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from binomctl.models import MODELS
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.section import Choice

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
LISTED = {
    found[1]: found[2] for found in re.finditer(r"^\| `([^`]+)` \| (?:`([^`]*)`)? ?\|", PAGE, re.M)
}


def leaves(cls, at=""):
    """(key, default) of every field of the schema itself, down to values and names."""
    for name, field in cls.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Choice) and f"{at}{name}" != "adaptation.optimizer":
            yield f"{at}{name}.name", default.name
        elif isinstance(default, BaseModel) and not isinstance(default, Choice):
            yield from leaves(type(default), f"{at}{name}.")
        else:
            yield f"{at}{name}", default


def test_every_key_of_the_schema_is_there_with_its_default():
    wanted = dict(leaves(Config))
    assert len(wanted) > 60
    for key, default in wanted.items():
        name = key if key in LISTED else f"{key}.name"
        assert name in LISTED, key
        if isinstance(default, bool | int) or default is None:
            assert LISTED[name] == str(default).replace("None", "null").lower(), key


@pytest.mark.parametrize("model", MODELS)
def test_every_model_and_its_options_are_there(model):
    section = PAGE.partition(f"### model {model}\n")[2].partition("\n### ")[0]
    assert section
    for field in dataclasses.fields(MODELS[model]):
        assert f"`model.{field.name}`" in section


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_plugin_and_its_options_are_there(kind):
    place = registry.PLACES.get(kind, kind)
    for info in registry.describe():
        if info.kind == kind:
            section = PAGE.partition(f"### {kind} {info.name}\n")[2].partition("\n### ")[0]
            assert section, info.name
            for option in info.options:
                assert f"`{place}.{option.name}`" in section, (info.name, option.name)
