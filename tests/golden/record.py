"""Write golden.json anew: only where a number is meant to change, with the reason in the commit.

python tests/golden/record.py [CASE ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden.cases import CASES, fingerprint, machine

FILE = Path(__file__).with_name("golden.json")


def main() -> None:
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or list(CASES)
    cases = json.loads(FILE.read_text())["cases"] if sys.argv[1:] else {}
    cases |= {name: fingerprint(CASES[name]()) for name in wanted}
    FILE.write_text(json.dumps({"machine": machine(), "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
