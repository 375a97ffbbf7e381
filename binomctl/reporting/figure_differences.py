"""Paired differences with their intervals, a line a method, from a comparison's report alone."""

from __future__ import annotations

from typing import Any

from binomctl.reporting.figures import Target, caption, new_figure, save, style
from binomctl.reporting.look import look


def draw_differences(report: dict[str, Any], target: Target) -> None:
    """Every method's difference to the reference with its 95% interval, the first on top."""
    pairs = [pair for pair in report["pairs"] if pair["difference"] is not None]
    share = report["unit"] == "share"
    scale = 100.0 if share else 1.0
    figure = new_figure(7.2, 1.3 + 0.3 * len(pairs))
    axes = figure.subplots()
    axes.axvline(0.0, color="0.4", lw=1)
    for i, pair in enumerate(pairs):
        value = scale * pair["difference"]
        low, high = (scale * end for end in pair["ci95"] or [pair["difference"]] * 2)
        axes.errorbar([value], [-i], xerr=[[value - low], [high - value]], capsize=2,
                      **look(pair["estimator"]))  # fmt: skip
    axes.set_yticks([-i for i in range(len(pairs))],
                    [pair["label"].replace("$", r"\$") for pair in pairs])  # fmt: skip
    unit = "percentage points" if share else report["metric"]
    style(axes, "", f"difference to {report['reference']} ({unit}, 95% CI)".replace("$", r"\$"))
    over = " and ".join(sorted({pair["over"] for pair in pairs}))
    caption(figure, f"{report['metric']} on {report['n']:,} {report['split']} tasks, in pairs;"
                    f" intervals over {over} (Student t)")  # fmt: skip
    save(figure, target)
