"""The documentation says what the program says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from scripts import script

ROOT = Path(__file__).parents[1]


def test_generated_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_picture_of_the_rooms_is_that_of_the_imports():
    drawing = script("architecture")
    svg = drawing["FIGURE"].read_text(encoding="utf-8")
    graph = drawing["rooms_and_arrows"]()
    assert drawing["embedded"](svg) == drawing["as_text"](graph), "run benchmarks/architecture.py"
    names = set(re.findall(r'font-weight="bold">([^<]+)<', svg))
    assert names == set(graph)
    assert svg.count("marker-end") == sum(map(len, drawing["reduced"](graph).values()))


@pytest.mark.parametrize("page", ["bilevel", "inner-loops"])
def test_the_code_of_a_page_runs(page, monkeypatch):
    """All python blocks of a page, one after another; they hold assertions of their own."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    module = types.ModuleType(f"page_{page.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look for names
    for block in blocks:
        exec(compile(block, f"docs/{page}.md", "exec", dont_inherit=True), module.__dict__)


def test_the_tables_of_the_inner_loops_are_the_kept_numbers():
    bench = script("inner_loops")
    kept = json.loads(bench["RESULT"].read_text(encoding="utf-8"))
    assert bench["paired"](kept["runs"]) == kept["paired"]
    page = bench["PAGE"].read_text(encoding="utf-8")
    assert bench["page"](page, kept) == page, "run benchmarks/inner_loops.py --draw"
    binom = kept["paired"]["binom L=2"]
    for kind in ("seed", "task"):
        gap = bench["_range"](binom[f"minus_fomaml_by_{kind}"], "+")
        said = re.sub(r"<!--[=/].*?-->", "", page).replace("\n", " ")
        assert f"by {kind} {gap}" in said
