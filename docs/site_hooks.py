"""What the site needs besides docs/: pages from the top of the repository, and links between them.

Called by mkdocs (mkdocs.yml); docs/ itself reads well without a site.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from pygments.formatters import HtmlFormatter

sys.path.insert(0, str(Path(__file__).parent))
from marks import without_marks

ROOT = Path(__file__).parents[1]
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md",
       "CHANGELOG.md": "changelog.md", "CITATION.cff": "CITATION.cff"}  # fmt: skip
NOTEBOOK = "notebook.ipynb"
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
BETWEEN = re.compile(r"^<!-- [\w-]+: (?:begin|end)[^>]*-->$", re.MULTILINE)
STYLE = """
.wy-nav-content { max-width: 960px; }
.rst-content table.docutils td, .rst-content table.docutils th { white-space: normal; }
.rst-content pre, .rst-content .codehilite pre { font-size: 12px; line-height: 1.4; }
.rst-content img { max-width: 100%; height: auto; background: #fff; }
.rst-content .codehilite { border: 1px solid #e1e4e5; overflow-x: auto; margin: 1px 0 24px;
  padding: 0; }
.rst-content .codehilite pre { margin: 0; padding: 12px; white-space: pre; border: 0;
  background: none; overflow: visible; }
.rst-content pre code { border: 0; background: none; padding: 0; white-space: pre; }
.rst-content .wide { overflow-x: auto; margin-bottom: 24px; }
.rst-content .wide table.docutils { margin-bottom: 0; font-size: 90%; }
.rst-content :not(pre) > code { white-space: normal; overflow-wrap: anywhere; }
.rst-content .wide td:last-child { min-width: 9em; }
.rst-content .wide code { white-space: normal; overflow-wrap: normal; }
"""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the top, the notebook as a page, and the styles."""
    for name, there in TOP.items():
        files.append(File.generated(config, there, content=(ROOT / name).read_text("utf-8")))
    notebook = json.loads((ROOT / "docs" / NOTEBOOK).read_text("utf-8"))
    files.append(File.generated(config, "notebook.md", content=as_page(notebook)))
    files.append(File.generated(config, "site.css", content=STYLE))
    code = HtmlFormatter(style="default").get_style_defs(".codehilite")
    files.append(File.generated(config, "code.css", content=code))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Without the marks of numbers, and with links that lead to pages of the site."""
    here = page.file.src_uri
    from_top = {there: name for name, there in TOP.items()}
    source = from_top.get(here, f"docs/{here}")
    plain = BETWEEN.sub("\n", without_marks(markdown))
    return LINK.sub(lambda m: linked(m, source, here), plain)


def linked(found: re.Match[str], source: str, here: str) -> str:
    """A link as it is in the site; its text alone where it leads to a file that is no page."""
    image, text, target, anchor = found[1], found[2], found[3], found[4] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    there = TOP.get(path)
    if path.startswith("docs/"):
        there = path.removeprefix("docs/")
    if there is None:
        return f"`{text}`" if "`" not in text else text
    if there == NOTEBOOK and here != "notebook.md":
        there = "notebook.md"
    if text == posixpath.basename(target) and text.endswith(".md"):
        text = title(ROOT / path)
    return f"{image}[{text}]({posixpath.relpath(there, posixpath.dirname(here) or '.')}{anchor})"


def title(page: Path) -> str:
    """A page's first heading, which says more than its file's name."""
    return page.read_text("utf-8").partition("\n")[0].removeprefix("# ")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """A table that is wider than the page is scrolled alone."""
    return html.replace("<table>", '<div class="wide"><table>').replace(
        "</table>", "</table></div>"
    )


def as_page(notebook: dict[str, Any]) -> str:
    """The cells one after another, and where the notebook is."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    parts.insert(1, f"The file: [docs/{NOTEBOOK}]({NOTEBOOK}); a test runs its cells.")
    return "\n\n".join(parts) + "\n"
