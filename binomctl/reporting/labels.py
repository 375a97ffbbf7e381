"""What a record of a report is called in tables, pictures and CSV files."""

from __future__ import annotations

from typing import Any


def named(record: dict[str, Any]) -> str:
    """The estimator with the options that have no column of their own: "imaml lam=50"."""
    return " ".join([record["estimator"], options_text(record)]).strip()


def options_text(record: dict[str, Any]) -> str:
    """ "lam=50 variant=authors"; empty where all are the plugin's defaults."""
    return " ".join(f"{name}={value}" for name, value in record["options"].items())
