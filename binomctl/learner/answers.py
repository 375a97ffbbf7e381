"""Predictions of one task as a report: labels, probabilities, and how many are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor


def classified(
    names: Sequence[str], probabilities: Tensor, classes: Sequence[str], truth: Sequence[str] | None
) -> dict[str, Any]:
    """Of a classification.

    Args:
        names: of the queries. probabilities: [M, classes]. truth: their classes, if known.

    Returns:
        {"classes", "predictions": [{"query", "label", "probability", "probabilities", "true"}],
        "accuracy": {"mean", "ci95", "interval", "n"} or None, "confusion": rows true, columns
        predicted, or None}.
    """
    from scipy.stats import binomtest

    best = probabilities.argmax(-1).tolist()
    rows = [
        {
            "query": name, "label": classes[i], "probability": float(p[i]),
            "probabilities": [float(v) for v in p], "true": truth[n] if truth else None,
        }
        for n, (name, i, p) in enumerate(zip(names, best, probabilities, strict=True))
    ]  # fmt: skip
    accuracy = confusion = None
    if truth is not None:
        right = sum(row["label"] == row["true"] for row in rows)
        low, high = binomtest(right, len(rows)).proportion_ci(method="wilson")
        accuracy = {
            "mean": right / len(rows), "ci95": [float(low), float(high)], "interval": "wilson",
            "n": len(rows),
        }  # fmt: skip
        pairs = Counter((row["true"], row["label"]) for row in rows)
        confusion = [[pairs[t, p] for p in classes] for t in classes]
    return {
        "classes": list(classes), "predictions": rows, "accuracy": accuracy, "confusion": confusion,
    }  # fmt: skip


def estimated(x: Tensor, values: Tensor, truth: Tensor | None) -> dict[str, Any]:
    """Of a regression: {"predictions": [{"x", "value", "true"}], "mse"}; true and mse as far as
    targets [M, out_dim] are known."""
    rows = [
        {"x": a, "value": b, "true": None if truth is None else truth[i].tolist()}
        for i, (a, b) in enumerate(zip(x.tolist(), values.tolist(), strict=True))
    ]
    mse = None if truth is None else float(((values - truth.to(values)) ** 2).mean())
    return {"predictions": rows, "mse": mse}


def shots_in_words(shots: int | dict[str, int]) -> str:
    """The examples of a support set: "3 ant, 5 bee", or their number in regression."""
    return str(shots) if isinstance(shots, int) else ", ".join(f"{n} {c}" for c, n in shots.items())


def csv_rows(report: dict[str, Any]) -> list[list[Any]]:
    """As lines of a CSV file."""
    predictions = report["predictions"]
    if "classes" in report:
        head = ["query", "label", "probability", "true", *report["classes"]]
        return [head, *(
            [p["query"], p["label"], p["probability"], p["true"] or "", *p["probabilities"]]
            for p in predictions
        )]  # fmt: skip
    first = predictions[0]
    head = [f"x{i}" for i in range(len(first["x"]))] + [f"y{i}" for i in range(len(first["value"]))]
    return [head, *([*p["x"], *p["value"]] for p in predictions)]
