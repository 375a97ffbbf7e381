"""What the project says of itself in more than one place is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from binomctl.settings.named import find

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_citation_is_of_this_version_and_of_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert cited["authors"] == PROJECT["authors"]
    paper = cited["preferred-citation"]
    assert [one["family-names"] for one in paper["authors"]] == [
        "Zhang", "Mountain", "Li", "Giannakis",
    ]  # fmt: skip
    assert paper["year"] == 2026
    assert re.search(rf"^## {re.escape(PROJECT['version'])} ", (ROOT / "CHANGELOG.md").read_text(),
                     re.MULTILINE)  # fmt: skip


def test_the_classifiers_begin_where_the_requirement_does():
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    assert PROJECT["requires-python"] == f">={named[0].rpartition(':')[2]}"
    assert [one.rpartition(".")[2] for one in named] == ["11", "12", "13"]


def test_a_commit_is_checked_by_what_make_lint_runs():
    makefile = (ROOT / "Makefile").read_text()
    lint = re.search(r"^lint: install\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    made = {line.split("/")[1].removesuffix(" .").strip() for line in lint.splitlines()}
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    run = {entry.removeprefix(".venv/bin/").replace(" --force-exclude", "") for entry in hooks}
    assert run == made == {"ruff check", "ruff format --check", "mypy"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_name_and_path_of_a_page_is_there(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"binomctl [^`\n]*--config ([a-z][\w/-]*)(?![\w./-])", text):
        find(Path(name))
    for name in re.findall(r"binomctl sweep (?!status|run)([a-z][\w/-]*)(?![\w./-])", text):
        find(Path(name), grid=True)
    for target in re.findall(r"\]\((?!http|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target


def test_the_paths_that_contributors_are_sent_to_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(
        re.findall(r"`((?:binomctl|plugins|tests|benchmarks|configs|docs)/[\w./-]*)`", text)
    )
    assert len(named) > 10
    for path in named:
        assert (ROOT / path).exists(), path
