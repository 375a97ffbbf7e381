"""Measured numbers of the pages are those of the kept results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripts import script

ROOT = Path(__file__).parents[1]


MARKS = script("marks", "docs")
KNOWN = script("kept_numbers", "docs")["numbers"]()
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


def kept(name: str) -> Any:
    return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text(encoding="utf-8"))


def captioned(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda bench: f"{kept(name)['caption']}.\n\n{bench['table'](kept(name))}"


TABLES: list[tuple[str, str, str, Callable[[dict[str, Any]], str]]] = [
    ("speed_page", "speed", "table", lambda bench: bench["table"](kept("speed"))),
    ("kernels", "speed", "kernels", lambda bench: bench["table"](kept("kernels"))),
    ("profile_workloads", "profile", "glyphs", captioned("profile_glyphs")),
    ("profile_workloads", "profile", "sinusoid", captioned("profile_sinusoid")),
    ("profile_workloads", "profile", "fig4", captioned("profile_fig4")),
    ("profile_workloads", "profile", "plans",
     lambda bench: bench["plan_table"](kept("profile_plans"))),
    ("deflated_weights", "beyond", "weights",
     lambda bench: bench["table"](kept("deflated_weights"))),
    ("beyond_page", "beyond", "tables", lambda bench: bench["tables"](kept("beyond"))),
    ("accuracy", "beyond", "accuracy", lambda bench: bench["all_tables"]()),
    ("reliability", "reliability", "table", lambda bench: bench["table"](kept("reliability"))),
    ("bilevel", "bilevel", "peers", lambda bench: bench["table"](kept("bilevel")["rows"])),
    ("speed_page", "speed", "busy", lambda bench: bench["busy_table"](kept("speed")["busy"])),
    ("shares", "speed", "shares", lambda bench: bench["table"](kept("shares"))),
    ("growth", "speed", "growth", lambda bench: bench["table"](kept("growth")["rows"])),
    ("overheads", "speed", "overheads", lambda bench: bench["table"](kept("overheads"))),
    ("start", "speed", "start", lambda bench: bench["table"](kept("start"))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "page", "mark", "body"), TABLES, ids=[f"{page}-{mark}" for _, page, mark, _ in TABLES]
)
def test_a_table_is_that_of_the_kept_result(name, page, mark, body):
    bench = script(name)
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert script("pages")["inserted"](text, mark, body(bench)) == text, f"benchmarks/{name}.py"


def of_table1(bench):
    return bench["tables"](bench["sections_of"](json.loads(bench["RUNS"].read_text())["runs"]))


MANY_TABLES = {
    "grid": lambda bench: {name: bench["table"](name) for name in ("glyphs", "sinusoid")},
    "table1": of_table1,
    "comparison": lambda bench: bench["tables"](json.loads(bench["KEPT"].read_text())),
}


@pytest.mark.parametrize("name", MANY_TABLES)
def test_the_tables_of_a_page_are_those_of_the_kept_result(name):
    bench = script(name)
    page = "table1" if name == "table1" else "comparison"
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for mark, body in MANY_TABLES[name](bench).items():
        assert script("pages")["inserted"](text, mark, body) == text, (
            f"{mark}: benchmarks/{name}.py"
        )


def test_the_page_of_networks_is_that_of_the_kept_result():
    bench = script("zoo")
    page = bench["page"](kept("zoo"))
    assert page == bench["PAGE"].read_text(encoding="utf-8"), "run benchmarks/zoo.py --page"


MEASURED = re.compile(
    r"\d[\d.,]*(?: (?:to|against) \d[\d.,]*)? ?"
    r"(?:%|ms\b|[kMG]i?B\b|microseconds|times as |hours?\b|minutes?\b|seconds?\b|images/s)"
)
"""A number with a unit that only a measurement gives it."""
WRITTEN = {"commands.md", "api.md", "configuration.md", "json.md", "comparison.md", "models.md"}
TYPED = {  # what is no measurement of ours, and why
    "6 GB": "the disk that README asks for",
    "5 ms": "an aim of docs/data.md",
    "3 times as ": "an aim of docs/speed.md",
    "2.5 times as ": "when a way to convolve is given up: a constant of the program",
    "95%": "the level of every interval",
    "80%": "the power that a number of seeds is asked for",
    "50%": "an aim of docs/speed.md",
    "10%": "an aim of docs/speed.md",
    "68 MB": "75 x 32 x 84 x 84 floats",
}


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in WRITTEN], ids=lambda p: p.name)
def test_no_measurement_is_typed_by_hand(page):
    """Outside of code and of what the scripts write."""
    text = page.read_text(encoding="utf-8")
    for gone in (r"^```.*?^```", r"<!-- ([\w-]+): begin.*?<!-- \1: end -->", r"`[^`\n]*`"):
        text = re.sub(gone, "", text, flags=re.DOTALL | re.MULTILINE)
    text = " ".join(MARKS["MARK"].sub("§", text).split())
    found = {one[0] for one in MEASURED.finditer(text)} - set(TYPED)
    assert not found, "mark it (docs/kept_numbers.py), or say what it is in TYPED"
