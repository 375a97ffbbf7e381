"""A configuration as a file to begin with: the keys that matter first, each with what it means."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from binomctl.models import MODELS
from binomctl.options import describe_options
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.keys import keys
from binomctl.settings.registry import Kind
from binomctl.settings.section import Choice

WIDTH = 96
SECTIONS = {
    "adaptation": ("K", "alpha"),
    "training": ("steps", "meta_batch", "meta_lr", "validate_every", "validation_tasks"),
    "evaluation": ("tasks",),
}
"""The keys of each section that are written out."""
TITLES = {
    "dataset": "what is learned from",
    "estimator": "how the meta-gradient is estimated",
    "model": "the network that adapts",
    "rule": "what of it adapts, and in which direction",
    "adaptation": "the inner loop: how a task is learned",
    "training": "the outer loop: how to learn tasks is learned",
    "evaluation": "what 'binomctl eval' tests",
}
HEAD = """\
# A configuration of binomctl: binomctl train --config {path}
# Keys that are left out have their defaults: 'binomctl config keys' lists them all, and
# 'binomctl config show {path}' what holds, and where it is from."""

Row = tuple[str, Any, str]


def commented(config: Config, path: str) -> str:
    """The YAML text of a configuration, for a file at `path`, with a comment for every key."""
    doc = {key.name: key.doc for key in keys()}
    parts = [HEAD.format(path=path), *_lines([("seed", config.seed, doc["seed"])], "")]
    for section, listed in (("dataset", "data sets"), ("estimator", "estimators")):
        kind: Kind = "dataset" if section == "dataset" else "estimator"
        chosen: Choice = getattr(config, section)
        rows = _options(chosen, registry.load(kind, chosen.name), listed)
        parts += [_title(section), *_lines(rows, "  ")]
    said = f"{', '.join(MODELS)}, or one of your own"
    parts += [_title("model"), *_lines([("name", config.model.name, said), *_given(config)], "  ")]
    said = "'binomctl plugins' lists rules and their options"
    parts += [_title("rule"), *_lines([("name", config.rule.name, said)], "  ")]
    for section, names in SECTIONS.items():
        values = getattr(config, section)
        rows = [(name, getattr(values, name), doc[f"{section}.{name}"]) for name in names]
        parts += [_title(section), *_lines(rows, "  ")]
    return "\n".join(parts) + "\n"


def _title(section: str) -> str:
    return f"\n{section}:  # {TITLES[section]}"


def _options(chosen: Choice, cls: type, listed: str) -> list[Row]:
    """The name and every option; the seed of a data set's tasks is the run's."""
    said = f"'binomctl plugins' lists {listed} and their options"
    rows: list[Row] = [("name", chosen.name, said)]
    for one in describe_options(cls):
        if one.name != "seed":
            rows.append((one.name, chosen.options.get(one.name, one.default), one.doc))
    return rows


def _given(config: Config) -> list[Row]:
    """The network's options that the data set or the estimator recommends."""
    cls = MODELS.get(config.model.name)
    docs = {one.name: one.doc for one in describe_options(cls)} if cls else {}
    return [(k, v, docs.get(k, "the network's own")) for k, v in config.model.options.items()]


def _lines(rows: list[Row], indent: str) -> Iterator[str]:
    """key: value  # what it is, or the comment above where a line would be too long."""
    for name, value, doc in rows:
        plain = list(value) if isinstance(value, tuple) else value
        shown = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=10**6)
        shown = shown.removesuffix("...\n").strip()  # YAML's end of a document that is one value
        line = f"{indent}{name}: {shown}"
        if len(line) + len(doc) + 4 <= WIDTH:
            yield f"{line}  # {doc}"
            continue
        yield from textwrap.wrap(doc, WIDTH, initial_indent=f"{indent}# ",
                                 subsequent_indent=f"{indent}# ")  # fmt: skip
        yield line
