"""Pictures hide nothing: whole intervals, legends beside the data, settings in their heads."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from binomctl.reporting import figure_along, figure_errors, figure_estimates, figure_profile
from binomctl.reporting.figures import caption, legend_below, new_figure, over_L, save, whiskers
from binomctl.reporting.look import look


def measured(mean: float, ci95: float | None) -> dict[str, Any]:
    return {"mean": mean, "ci95": ci95, "median": mean, "n": 3, "max": mean, "values": [mean] * 3}


def error(name: str, L: int | None, mean: float, ci95: float = 0.05, **more: Any) -> dict[str, Any]:
    value = measured(mean, ci95)
    return {
        "estimator": name, "L": L, "C": None, "alpha_scaling": None, "options": {},
        "relative": value, "per_task": {"over_g": value},
        "estimated": {"true": [mean, 2 * mean], "values": [mean, mean], "over_true": value},
    } | more  # fmt: skip


def report(step: int | None = None, names: tuple[str, ...] = ("binom", "trunc")) -> dict[str, Any]:
    errors = [error("fomaml", None, 0.6)]
    errors += [error(name, L, 0.5 / 3**L + 0.01 * i) for i, name in enumerate(names)
               for L in range(6)]  # fmt: skip
    config = {
        "dataset": {"name": "sinusoid"}, "model": {"name": "mlp"}, "dtype": "float64",
        "adaptation": {"K": 6, "alpha": 0.01}, "analysis": {"batches": 3},
        "training": {"meta_batch": 7},
    }  # fmt: skip
    return {"step": step, "config": config, "spectrum": None, "errors": errors}


def profiled() -> dict[str, Any]:
    spread = {"median": 4.0, "p10": 3.0, "p90": 9.0, "n": 12}
    cells = [
        {"estimator": name, "L": L, "C": None, "options": {}, "failed": None, "step_ms": spread,
         "peak_memory_bytes": 2**20 * (1 + i), "utilization": {"value": 0.9, "meaning": "busy"}}
        for i, (name, L) in enumerate([("maml", None), ("binom", 1), ("binom", 2)])
    ]  # fmt: skip
    return {"caption": "glyphs, K = 5, float32", "config": {"adaptation": {"alpha": 0.4}},
            "cells": cells}  # fmt: skip


@pytest.fixture
def drawn(monkeypatch):
    """The figures that a drawing function would have written."""
    kept: list[Any] = []
    for module in (figure_along, figure_errors, figure_estimates, figure_profile):
        monkeypatch.setattr(module, "save", lambda figure, path: kept.append(figure))
    return kept


ALL = {
    "errors": lambda: figure_errors.draw_errors([report()], Path("x.png")),
    "along": lambda: figure_errors.draw_errors([report(s) for s in (1, 5, 9)], Path("x.png")),
    "estimates": lambda: figure_estimates.draw_estimates(report(), Path("x.png")),
    "profile": lambda: figure_profile.draw_profile(profiled(), Path("x.png")),
}


@pytest.mark.parametrize("name", ALL)
def test_a_picture_names_its_setting_and_its_legend_hides_nothing(name, drawn):
    ALL[name]()
    (figure,) = drawn
    figure.draw_without_rendering()
    head = figure.get_suptitle().replace("\n", " ")
    setting = ["glyphs", "K = 5", "float32", "alpha = 0.4", "n = 12"]
    if name != "profile":
        setting = ["sinusoid", "K = 6", "alpha = 0.01", "float64", "n = 3 batches of 7 tasks"]
    assert not [part for part in setting if part not in head]
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    for axes in figure.axes:
        assert axes.get_legend() is None
        assert not box.overlaps(axes.get_tightbbox())


def test_the_upper_end_of_an_interval_is_exact_and_a_lower_one_at_0_runs_off(drawn):
    wide, narrow = error("binom", 1, 0.1, 0.4), error("binom", 2, 0.2, 0.05)
    figure_errors.draw_errors([report() | {"errors": [wide, narrow]}], Path("x.png"))
    axes = drawn[0].axes[0]
    drawn[0].draw_without_rendering()
    first, second = axes.containers[0].lines[2][0].get_segments()
    assert first[1][1] == pytest.approx(0.5)
    assert first[0][1] < axes.get_ylim()[0] < 0.1
    assert axes.get_ylim()[1] > 0.5
    assert second[:, 1] == pytest.approx([0.15, 0.25])


def test_whiskers():
    values = [measured(0.1, 0.4), measured(0.2, 0.05), measured(0.3, None)]
    assert whiskers(values) == [[0.1, 0.05, 0.0], [0.4, 0.05, 0.0]]


def test_thirteen_curves_along_training_are_told_apart(drawn):
    ALL["along"]()
    (axes,) = drawn[0].axes
    curves = {line.get_label(): line for line in axes.lines}
    assert len(curves) == 13
    assert len({(c.get_color(), c.get_marker()) for c in curves.values()}) == 13
    for name in ("fomaml", "binom", "trunc"):
        mine = [c for label, c in curves.items() if label.startswith(name)]
        assert {c.get_marker() for c in mine} == {look(name)["marker"]}
        assert mine[-1].get_color() == look(name)["color"]
    drawn[0].draw_without_rendering()
    names = [text for text in axes.texts if text.get_text().isdigit()]
    assert len(names) == 12
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.y0)
    for below, above in itertools.pairwise(boxes):
        assert above.y0 >= below.y0 + 0.6 * below.height  # digits, whose boxes have room above


def test_the_estimator_has_one_look_in_every_picture(drawn):
    for draw in ALL.values():
        draw()
    for figure in drawn:
        for axes in figure.axes:
            for line in axes.lines:
                if str(line.get_label()).startswith("binom"):
                    assert line.get_marker() == look("binom")["marker"]


def test_a_long_legend_and_a_long_head_fit_a_narrow_picture(tmp_path):
    figure = new_figure(3.0, 3.0)
    axes = figure.subplots()
    over_L(axes)
    for i in range(13):
        axes.plot([0, 1], [1, 2 + i], label=f"an estimator with a name, L = {i}")
    caption(figure, "a setting of many words, " * 6)
    legend_below(figure, [axes])
    save(figure, tmp_path / "x.png")
    figure.draw_without_rendering()  # saved with more dots an inch
    assert axes.get_window_extent().height > 120  # of 300 at 100 dots an inch
    assert figure.legends[0].get_window_extent().x0 >= 0
    assert figure._suptitle.get_window_extent().x0 >= 0
