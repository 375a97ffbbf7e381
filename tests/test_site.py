"""The documentation as a site: built without a warning, and nothing is loaded from outside."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed (extra 'docs')"
)
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Addresses(HTMLParser):
    """What a page loads, where its links lead, and what can be led to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {key: value or "" for key, value in attrs}
        if "id" in of:
            self.names.add(of["id"])
        if tag in LOADED and LOADED[tag] in of and of.get("rel") != "canonical":
            self.loaded.append(of[LOADED[tag]])
        if tag == "a" and "href" in of:
            self.links.append(of["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "built"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    read = {}
    for path in sorted(site.rglob("*.html")):
        read[path] = Addresses()
        read[path].feed(path.read_text(encoding="utf-8"))
    assert len(read) > 30
    return read


def test_nothing_is_loaded_from_outside(site, pages):
    for path, page in pages.items():
        outside = [a for a in page.loaded if re.match(r"(\w+:)?//", a)]
        assert not outside, (path, outside)
    for path in site.rglob("*.css"):
        found = re.findall(
            r"(?:url\(|@import)\s*['\"]?((?:\w+:)?//[^'\")]+)", path.read_text("utf-8")
        )
        assert not found, (path, found)


def test_every_link_leads_somewhere(site, pages):
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), (path, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].names, (path, link)


def test_every_page_of_the_folder_is_in_it_and_no_marks_are(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").exists(), page
    for built in site.rglob("*.html"):
        assert "<!--=" not in built.read_text(encoding="utf-8"), built
