"""How often answers of a confidence are right: the reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from binomctl.reporting.figures import Target, new_figure, save, style
from binomctl.words import number_of


def draw_reliability(calibration: Mapping[str, Any], title: str, target: Target) -> None:
    """Accuracy against confidence, bin by bin, the diagonal beside it, and how many answers each
    bin has.

    Args:
        calibration: as `binomctl.training.confidence.calibration` gives it.
    """
    bins = [one for one in calibration["bins"] if one["n"]]
    figure = new_figure(5.4, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
    middles = [100 * (b["from"] + b["to"]) / 2 for b in bins]
    width = 100 / len(calibration["bins"])
    upper.plot(
        [0, 100], [0, 100], color="0.5", linewidth=1, linestyle="--", label="as often right as sure"
    )
    upper.bar(middles, [100 * b["accuracy"] for b in bins], width, color="#4477aa",
              edgecolor="white", label="right answers")  # fmt: skip
    upper.plot([100 * b["confidence"] for b in bins], [100 * b["accuracy"] for b in bins], "o",
               color="#cc3311", markersize=4, label="mean of the bin")  # fmt: skip
    upper.set_xlim(0, 100)
    upper.set_ylim(0, 100)
    lower.bar(middles, [b["n"] for b in bins], width, color="0.7", edgecolor="white")
    error, queries = calibration["error"], calibration["queries"]
    said = f"{title}\ncalibration error {error:.1%} of {number_of(queries, 'query')}"
    style(upper, said, "", "right (%)")
    style(lower, "", "probability of the answer (%)", "queries")
    upper.legend(loc="upper left", frameon=False)
    save(figure, target)
