"""The card of an exported network: what it is, of which data, how good, how it is loaded."""

from __future__ import annotations

import json
from typing import Any

import yaml

from binomctl.learner.exported import Exported


def card(what: Exported, kind: str, file: str, loading: str, licence: str) -> str:
    """Markdown with a head of YAML, as model hubs read it.

    Args:
        loading: Python that loads it. licence: of the weights, as their owner says.
    """
    config, about = what.config, what.about
    head = {
        "license": licence,
        "library_name": "onnx" if kind == "onnx" else "pytorch",
        "datasets": [config.dataset.name],
        "tags": ["meta-learning", "few-shot", config.estimator.name],
    }
    pixels = "[0, 255]" if config.pixels == "raw" else "[0, 1]"
    inputs = f"float [n, {', '.join(map(str, what.in_shape))}]"
    if len(what.in_shape) == 3:
        inputs += f", pixels in {pixels}"
    outputs = f"logits [n, {what.out_dim}]" if about["kind"] == "classification" else (
        f"values [n, {what.out_dim}]")  # fmt: skip
    if what.classes:
        outputs += f" of {', '.join(map(str, what.classes))}"
    rows = [
        ("network", _named(config.model.model_dump())),
        ("inputs", inputs),
        ("outputs", outputs),
        ("of", about["of"]),
        ("meta-trained on", _named(config.dataset.model_dump(exclude={"root"}))),
        ("by", f"{_named(config.estimator.model_dump())}, rule {_named(config.rule.model_dump())}"),
        ("inner loop", f"K = {config.adaptation.K}, alpha = {config.adaptation.alpha}"),
        *about["rows"],
        ("batch norm", about["norm"]),
        ("licence of the weights", licence),
        ("licence of the data", "see the data set; it is not part of this file"),
    ]
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows if value)
    everything = config.model_dump(mode="json", exclude={"dataset": {"root"}})
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return (
        f"---\n{front}---\n\n# {file}\n\n| | |\n|---|---|\n{table}\n\n## Loading\n\n"
        f"```python\n{loading}\n```\n\n## Configuration\n\n```json\n"
        f"{json.dumps(everything, indent=1)}\n```\n"
    )


def _named(section: dict[str, Any]) -> str:
    options = ", ".join(f"{k} = {v}" for k, v in section.items() if k != "name")
    return f"{section['name']}" + (f" ({options})" if options else "")


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
