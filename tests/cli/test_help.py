"""The help of every command: examples that parse, panels, one name for one thing, its width."""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from pathlib import Path

import pytest
from command import here
from typer.main import get_command

from binomctl.cli.application import app
from binomctl.cli.examples import EXAMPLES
from binomctl.cli.panels import FEW, PANELS


def every(group=None, words=""):
    """(words, command) of every command that does something."""
    for name, command in (group or get_command(app)).commands.items():
        inner = f"{words} {name}".strip()
        if hasattr(command, "commands"):
            yield from every(command, inner)
        else:
            yield inner, command


COMMANDS = dict(every())


def options(command):
    return [p for p in command.params if p.opts[0].startswith("-") and not p.hidden]


def test_every_command_has_two_to_four_examples():
    assert set(EXAMPLES) == set(COMMANDS)
    assert all(2 <= len(found) <= 4 for found in EXAMPLES.values())
    assert max(len(one) for found in EXAMPLES.values() for one in found) <= 58


@pytest.mark.parametrize("words", EXAMPLES)
def test_examples_are_of_their_command_and_parse(words):
    for example in EXAMPLES[words]:
        program, *args = shlex.split(example.partition(" > ")[0])
        assert program == "binomctl"
        group = words.split()[0]
        args = args[1:] if args[0] == group and group != words else args
        name, *rest = args if args[0] == words.split()[-1] else [words.split()[-1], *args]
        assert words.endswith(name)
        COMMANDS[words].make_context(name, rest)  # raises where an option or a value is not known


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("words", ["", *COMMANDS, "sweep", "runs", "data", "config"])
def test_no_line_of_help_is_wider_than_the_terminal(words, width):
    out = here(*words.split(), "--help", COLUMNS=str(width)).stdout
    assert "Usage: binomctl" in out
    assert max(map(len, out.splitlines())) <= width
    for example in EXAMPLES.get(words, ()):
        assert example in out  # whole, to be copied


def test_many_options_stand_in_panels():
    for words, command in COMMANDS.items():
        if len(options(command)) > FEW:
            left = {p.name for p in options(command) if p.rich_help_panel is None}
            assert left <= {"help", "theorem", "normalize", "certify", "beyond", "decay", "change",
                            "H", "h", "plan", "memory_budget", "time_budget"}, words  # fmt: skip
    known = {p.name for command in COMMANDS.values() for p in command.params}
    named = {name for names in PANELS.values() for name in names.split()}
    assert named <= known, named - known


def test_one_name_is_one_thing():
    """A parameter has the same option wherever it is, and an option the same kind of value but for
    those that a list or a count widens."""
    by_parameter, by_option = defaultdict(set), defaultdict(set)
    for command in COMMANDS.values():
        for p in options(command):
            by_parameter[p.name].add(tuple(p.opts))
            for name in p.opts:
                by_option[name].add(p.type_descriptor.annotation)
    different = {name: found for name, found in by_parameter.items() if len(found) > 1}
    assert not {n: f for n, f in different.items() if n not in ("output", "out")}
    lists = {
        "--ways",
        "--shots",
        "--steps",
        "--adaptation-steps",
        "--seed",
        "--L",
    }  # of eval, profile: several values
    mixed = {name: found for name, found in by_option.items() if len(found) > 1}
    assert set(mixed) - {"-h"} <= lists | {"--init"}, mixed


def test_old_names_work_still():
    for words, old in (("error-analysis", "--checkpoint"), ("sweep run", "--memory"),
                       ("adapt", "--output"), ("predict", "--output")):  # fmt: skip
        assert any(old in p.opts for p in COMMANDS[words].params)


def test_an_option_is_called_what_it_is_and_its_old_name_goes(tmp_path):
    """--steps are meta-steps; those of adaptation and those made again have names of their own."""
    for words in (["eval"], ["predict"], ["adapt"], ["compare"], ["report"]):
        assert "--adaptation-steps,--steps" in here(*words, "--help", COLUMNS="120").stdout
    assert "--replay,--steps" in here("verify", "--help", COLUMNS="120").stdout
    run = tmp_path / "run"
    small = ["--dataset", "sinusoid", "--meta-batch", 2, "--set", "training.validation_tasks=2"]
    assert here("train", *small, "--steps", 2, "--out", run).returncode == 0
    told = [
        json.loads(here("eval", run, "--tasks", 2, name, 3, "--json").stdout)["adaptation_steps"]
        for name in ("--adaptation-steps", "--steps")
    ]
    assert told == [3, 3]
    for name in ("--replay", "--steps"):
        assert json.loads(here("verify", run, name, 0, "--json").stdout)["replayed"] is None


def test_error_analysis_takes_what_train_takes_of_a_data_set():
    short = ["error-analysis", "--dataset", "glyphs", "--ways", 2, "--shots", 1, "--size", 16,
             "--set", "model.filters=2", "--estimators", "fomaml", "--batches", 2,
             "--meta-batch", 1, "--json"]  # fmt: skip
    dataset = json.loads(here(*short).stdout)["config"]["dataset"]
    assert (dataset["ways"], dataset["shots"], dataset["image_size"]) == (2, 1, 16)


def test_files_are_written_where_output_says(tmp_path):
    for name in ("--output", "-o", "--out"):
        assert here("init", name, tmp_path / f"{name}.yaml").returncode == 0
        assert (tmp_path / f"{name}.yaml").exists()
    assert here("plugins", "new", "rule", "my-rule", "-o", tmp_path / "made").returncode == 0


ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_GROUPS = {"sweep": "run", "plugins": "list", "runs": "ls"}
"""The command that a group without one of its own is."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_a_page_shows_parses(page):
    """In fenced blocks, those that no test runs among them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        if not line.startswith("binomctl ") or page.name == "commands.md":
            continue
        args = shlex.split(re.split(r"\s[|>;&]+\s", line)[0], comments=True)[1:]
        words = " ".join(args[:2])
        if words not in COMMANDS and args[0] in OF_GROUPS:
            args.insert(1, OF_GROUPS[args[0]])
            words = " ".join(args[:2])
        words = words if words in COMMANDS else args[0]
        name, *rest = args[len(words.split()) - 1 :]
        COMMANDS[words].make_context(name, rest)
