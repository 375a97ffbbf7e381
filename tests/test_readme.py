"""What the README shows is what happens: its commands and its code run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command import in_a_process
from shown import missing

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The binomctl commands of a page's bash blocks, each without its name."""
    lines = "".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words]


def test_it_is_short():
    assert README.count("\n") <= 150


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the tour's commands print, one after another in one folder."""
    assert not re.search(r"^(?!binomctl |#|$)", "".join(blocks(README, "bash")), re.MULTILINE)
    folder = tmp_path_factory.mktemp("tour")
    # `make demo`, which the page begins with, leaves a run of its own in runs/.
    demo = ["train", "--estimator", "binom", "--L", "2", "--steps", "1"]
    quick = ["--set", "training.validation_tasks=2"]
    assert in_a_process(*demo, *quick, cwd=folder).returncode == 0
    outputs = []
    for words in commands(README):
        done = in_a_process(*words, cwd=folder, COLUMNS="80", NO_COLOR="1")
        assert done.returncode == 0, (words, done.stderr)
        outputs.append((words[0], done.stdout))
    assert (folder / "report.html").stat().st_size > 10_000
    return outputs


WITHIN = {"eval": 0.1, "compare": 0.5, "error-analysis": 0.01}
"""How far another processor's numbers may be off: training magnifies rounding, a difference of two
trained networks most; an error at the first weights, in float64, nearly not."""


@pytest.mark.long
def test_the_tour_runs_and_prints_what_is_shown(printed):
    answers = [(name, text) for name, text in printed if name in WITHIN]
    shown = blocks(README, "text")
    assert len(shown) == len(answers) == 3
    for one, (name, answer) in zip(shown, answers, strict=True):
        assert not missing(one, answer, WITHIN[name]), answer


def test_its_python_runs():
    (block,) = blocks(README, "python")
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    assert set(names["gradients"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_a_terminal_finds_the_command_before_the_first_is_typed():
    made, typed = README.index("make demo"), README.index("```bash\nbinomctl ")
    assert made < README.index("source .venv/bin/activate") < typed


def test_its_two_commands_are_made_and_run_by_ci():
    (block,) = blocks(README, "sh")
    targets = re.findall(r"^make ([\w-]+)", block, re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile, ci = (ROOT / "Makefile").read_text(), (ROOT / ".ci" / "run").read_text()
    for target in targets:
        assert re.search(rf"^{target}: ", makefile, re.MULTILINE)
        assert re.search(rf"^make {target}\b", ci, re.MULTILINE)
