"""Measured numbers of the pages are those of the kept results."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKS = runpy.run_path(str(ROOT / "docs" / "marks.py"))
KNOWN = runpy.run_path(str(ROOT / "docs" / "kept_numbers.py"))["numbers"]()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKED = [page for page in PAGES if "<!--=" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", MARKED, ids=lambda p: p.name)
def test_a_page_says_what_the_results_say(page):
    text = page.read_text(encoding="utf-8")
    assert MARKS["filled"](text, KNOWN) == text, "run python docs/generate.py"
    assert text.count("<!--=") == text.count("<!--/-->") == len(MARKS["MARK"].findall(text))


def test_a_number_that_differs_is_renewed_and_one_that_is_not_there_is_named():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    wrong = re.sub(r"(<!--=demo.accuracy-->)[^<]*", r"\g<1>99.9%", text)
    assert wrong != text
    assert MARKS["filled"](wrong, KNOWN) == text
    with pytest.raises(ValueError, match=r"no number is called demo\.speed"):
        MARKS["filled"]("a <!--=demo.speed-->1<!--/-->", KNOWN)
    with pytest.raises(ValueError, match="begins a line"):
        MARKS["filled"]("a\n<!--=demo.steps-->1<!--/-->", KNOWN)
    assert MARKS["without_marks"]("a <!--=demo.steps-->1<!--/--> b") == "a 1 b"
