"""What a record of a report is called in tables, pictures and CSV files."""

from __future__ import annotations

from typing import Any

from binomctl.words import number_of


def named(record: dict[str, Any]) -> str:
    """The estimator with the options that have no column of their own: "imaml lam=50"."""
    return " ".join([record["estimator"], options_text(record)]).strip()


def options_text(record: dict[str, Any]) -> str:
    """ "lam=50 variant=authors"; empty where all are the defaults, or a kept report has none."""
    return " ".join(f"{name}={value}" for name, value in record.get("options", {}).items())


def with_options(name: str, options: dict[str, Any]) -> str:
    """ "binom (L = 2)"."""
    listed = ", ".join(f"{k} = {v}" for k, v in options.items())
    return f"{name} ({listed})" if listed else name


def label_of(error: dict[str, Any]) -> str:
    """A curve of an error analysis: all that tells it from others but L."""
    label = named(error)
    if error["C"] is not None:
        label += f", C = {error['C']}"
    return label + (", alpha' = L alpha/K" if error["alpha_scaling"] == "paper" else "")


def setting_of(report: dict[str, Any]) -> str:
    """Where the numbers of an error analysis come from, for a picture's head."""
    config = report["config"]
    how = config["adaptation"]
    at = "" if report.get("step") is None else f", checkpoint of step {report['step']}"
    return (
        f"{config['dataset']['name']}, {config['model']['name']}, K = {how['K']}, alpha ="
        f" {how['alpha']:g}, {config['dtype']}{at}, n ="
        f" {number_of(config['analysis']['batches'], 'batch')} of"
        f" {number_of(config['training']['meta_batch'], 'task')}"
    )
