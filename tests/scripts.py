"""Scripts of benchmarks/ and docs/, without running them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def script(name: str, folder: str = "benchmarks") -> dict[str, Any]:
    """What a script defines; its neighbours are where Python finds them."""
    sys.path.insert(0, str(ROOT / folder))
    try:
        return runpy.run_path(f"{ROOT}/{folder}/{name}.py")
    finally:
        sys.path.remove(str(ROOT / folder))
