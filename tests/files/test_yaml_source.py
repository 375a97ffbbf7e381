"""YAML from anywhere ends in plain values or in an error with its line, and in no time."""

from __future__ import annotations

import time

import pytest

from binomctl.errors import ConfigError
from binomctl.files.yaml_source import parse_value, read_yaml

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
FAULTS = [
    (BOMB, "more than 10,000 values"),
    ("a: &a [*a]\n", "nested deeper than 32"),
    ("a: " + "[" * 5000, "nested deeper than 32"),
    ("a: 1\nb: !!bool x\n", ":2: b is 'x' is no bool|:2: b is 'x'"),
    ("a: !!timestamp x\n", "the tag .*timestamp is not allowed"),
    ("a: 1\nb: \x01\n", ":2: the character"),
    ('a: "\\0"\n', r"a is a text with the character '\\x00'"),
    ('a: "\\ud800"\n', "a is a text with the character"),
    ("training.steps: 3\n", "is no key; write training: {steps: ...}"),
    ("true: 3\n", "the key true is read as bool; quote it"),
    (f"a: {2**63}\n", "more than 64 bits"),
    (f"a: {'9' * 5000}\n", "is no int"),
    ("a: " + "x" * 2**18, "longer than"),
]


@pytest.mark.promise(15, fault="YAML that is hostile: bombs, tags, control characters, odd keys")
@pytest.mark.parametrize(("text", "word"), FAULTS, ids=range(len(FAULTS)))
def test_hostile_yaml_is_refused_with_its_line(tmp_path, text, word):
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=word):
        read_yaml(file)
    assert time.monotonic() - began < 5


def test_dates_are_text_and_aliases_are_allowed():
    assert parse_value("2026-01-02", "--set a") == "2026-01-02"
    assert parse_value("[&a 1, *a]", "--set a") == [1, 1]


@pytest.mark.promise(15, fault="a file without an end as --config")
def test_a_device_is_no_configuration(tmp_path):
    from pathlib import Path

    with pytest.raises(ConfigError, match="no plain file"):
        read_yaml(Path("/dev/zero"))
