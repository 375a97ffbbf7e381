"""docs/notebook.ipynb runs, cell by cell, in one Python."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def test_the_notebook_runs(one_op_thread):
    written = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in written["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "it is kept without its outputs"
    names: dict[str, object] = {}
    plt.switch_backend("Agg")
    try:
        for number, cell in enumerate(cells):
            source = "".join(cell["source"])
            exec(compile(source, f"cell {number}", "exec", dont_inherit=True), names)
        assert len(names["figure"].axes[0].lines) == 3
    finally:
        plt.close("all")
