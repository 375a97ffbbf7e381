"""metrics.jsonl: one line per logged step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from binomctl.files.atomic import write_atomic, writing
from binomctl.finite import finite


def append(path: Path, record: dict[str, Any]) -> None:
    """One more line; what is not finite becomes null."""
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite(record), allow_nan=False) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last one that a crash cut off is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def scored_by(records: list[dict[str, Any]]) -> tuple[str, Literal["share", "number"]]:
    """The name and the unit of the metric that a run logs; "" where it has logged nothing."""
    keys = (k.removeprefix("train_") for k in (records[-1] if records else ()) if "train_" in k)
    name = next((key for key in keys if key != "loss"), "")
    return name, "share" if name == "accuracy" else "number"


def cut(path: Path, step: int) -> None:
    """Drop the records after a step: what resumes from there writes them again."""
    kept = [record for record in read(path) if record["step"] <= step]
    if path.exists():
        write_atomic(path, "".join(json.dumps(r) + "\n" for r in kept).encode())
