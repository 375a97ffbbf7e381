"""The how-tos and the tutorial: what they show runs, in order, in a folder of its own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from command import in_a_process
from PIL import Image
from shown import missing
from test_readme import blocks, commands

DOCS = Path(__file__).parents[1] / "docs"
RUN = sorted(p for p in (DOCS / "howto").glob("*.md") if "```bash" in p.read_text("utf-8"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty classes of six pictures, each near a picture of its class."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for kind in range(20):
        of = folder / f"kind{kind:02d}"
        of.mkdir()
        base = random.integers(0, 255, (8, 8, 3))
        for number in range(6):
            pixels = np.clip(base + random.normal(0, 20, base.shape), 0, 255).astype("uint8")
            Image.fromarray(pixels).resize((32, 32)).save(of / f"{number}.png")
    return folder


@pytest.mark.parametrize("page", RUN, ids=lambda p: p.stem)
def test_the_commands_of_a_how_to_run(page, tmp_path, photos):
    text = page.read_text(encoding="utf-8")
    (tmp_path / "photos").symlink_to(photos)
    for block in blocks(text, "yaml"):  # named by the comment in their first line
        name = re.match(r"# ([\w.]+\.yaml)", block)
        if name:
            (tmp_path / name[1]).write_text(block, encoding="utf-8")
    (tmp_path / "own_net.py").write_text(
        "".join(blocks(text, "python")).partition("\n\n\ntorch")[0]
    )
    found = commands(text)
    assert found
    for words in found:
        done = in_a_process(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.parametrize("page", ["howto/model", "howto/loss", "library"])
def test_the_python_of_a_page_runs(page):
    names: dict[str, object] = {}
    found = blocks((DOCS / f"{page}.md").read_text(encoding="utf-8"), "python")
    assert found
    for block in found:
        exec(compile(block, f"docs/{page}.md", "exec", dont_inherit=True), names)


@pytest.mark.skipif(
    importlib.util.find_spec("learn2learn") is None, reason="learn2learn is not installed"
)
def test_the_learn2learn_script_and_ours_give_the_same_gradients():
    from binomctl.images.learn2learn import load

    load()  # its imports warn
    before, after = blocks((DOCS / "howto/learn2learn.md").read_text("utf-8"), "python")
    theirs: dict[str, object] = {}
    ours: dict[str, object] = {}
    exec(compile(before, "before", "exec", dont_inherit=True), theirs)
    exec(compile(after, "after", "exec", dont_inherit=True), ours)
    assert set(theirs["before"]) == set(ours["gradients"])
    for name, gradient in ours["gradients"].items():
        torch.testing.assert_close(gradient, theirs["before"][name], rtol=1e-5, atol=1e-6)
    for mine, other in zip(
        ours["model"].parameters(), theirs["model"].parameters(), strict=True
    ):  # Adam's first step is the sign of the gradient, nearly
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """The tutorial's folder, after all of its commands, and what they printed."""
    said = []
    folder = tmp_path_factory.mktemp("tutorial")
    lines = "".join(blocks((DOCS / "tutorial.md").read_text("utf-8"), "bash")).splitlines()
    for line in lines:
        if line.startswith("printf "):
            subprocess.run(["bash", "-c", line], cwd=folder, check=True)
            continue
        (words,) = commands(f"```bash\n{line}\n```\n")
        done = in_a_process(*words, cwd=folder, COLUMNS="80", NO_COLOR="1")
        assert done.returncode == 0, (words, done.stderr)
        said += [done.stdout, done.stderr]
    return folder, "\n".join(said)


@pytest.mark.long
def test_the_tutorial_runs_and_prints_what_is_shown(tutorial):
    folder, printed = tutorial
    named = {"support.csv", "query.csv", "report.html", "curves.pdf", "runs"}
    assert named <= {path.name for path in folder.iterdir()}
    # Within what rounding becomes in 300 steps on another processor.
    *shown, further = blocks((DOCS / "tutorial.md").read_text("utf-8"), "text")
    assert further.startswith("binomctl init ")  # a list of commands, no output
    assert not missing("".join(shown), printed, within=0.25)
