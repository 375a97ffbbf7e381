"""What a record of a report is called in tables, pictures and CSV files."""

from __future__ import annotations

from typing import Any


def named(record: dict[str, Any]) -> str:
    """The estimator with the options that have no column of their own: "imaml lam=50"."""
    return " ".join([record["estimator"], options_text(record)]).strip()


def options_text(record: dict[str, Any]) -> str:
    """ "lam=50 variant=authors"; empty where all are the plugin's defaults."""
    return " ".join(f"{name}={value}" for name, value in record["options"].items())


def with_options(name: str, options: dict[str, Any]) -> str:
    """ "binom (L = 2)"."""
    listed = ", ".join(f"{k} = {v}" for k, v in options.items())
    return f"{name} ({listed})" if listed else name
