"""docs/speed.md's tables and picture, from what benchmarks/speed.py measured."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from contestants import WORKLOADS, Case, K, L
from pages import put
from turns import spread

ROOT = Path(__file__).parents[1]
RESULT, FIGURE = ROOT / "benchmarks/results/speed.json", ROOT / "docs/figures/speed.svg"
PAGE = ROOT / "docs/speed.md"
BASE = "learn2learn MAML"
PRODUCTS = {
    "learn2learn FOMAML": 0,
    "learn2learn MAML": K,
    "binomctl FOMAML": 0,
    "binomctl MAML": K,
    "binomctl Binom(2)": L * (K - L + 1),
}
"""Hessian-vector products in a step."""


def summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One workload: medians with p10 and p90, ratios to learn2learn's MAML, share of the floor."""
    out: dict[str, Any] = {}
    for allocator, run in runs.items():
        rows: dict[str, Any] = {}
        for label, ms in run["times"].items():
            rows[label] = spread(ms)
        out[allocator] = {
            "sgemm_gflops": round(run["sgemm"] / 1e9, 1),
            "peak_resident_mib": round(run["resident"] / 2**20),
            "failed": run["failed"],
            "difference_from_autograd": run["differences"],
            "contestants": rows,
        }
    for row in out["tuned"]["contestants"].values():
        row["times_as_fast"] = {
            a: round(out[a]["contestants"][BASE]["median_ms"] / row["median_ms"], 2) for a in out
        }
    return out


def add_shares(report: dict[str, Any]) -> None:
    """What the work of each of our steps takes at the rate of a large matrix product, as a share of
    its median."""
    for name, found in report["workloads"].items():
        case = Case(WORKLOADS[name])
        for allocator in (a for a in ("system", "tuned") if a in found):
            rows, rate = found[allocator]["contestants"], 1e9 * found[allocator]["sgemm_gflops"]
            for label in PRODUCTS.keys() & rows.keys():
                work = case.work(PRODUCTS[label])
                if work is not None:
                    share = round(1e3 * work / rate / rows[label]["median_ms"], 3)
                    rows[label]["share_of_floor"] = share


def table(report: dict[str, Any]) -> str:
    """The page's table: ours tuned, against learn2learn as it is used and tuned alike."""
    lines = [
        "| workload | step | median (p10 to p90; n), ms | learn2learn MAML: as it is / tuned |"
        " share of floor |",
        "|---|---|---|---|---|",
    ]
    for name, found in report["workloads"].items():
        name = f"{name}; {found['tuned']['sgemm_gflops']:.0f} GFLOP/s"
        for label, row in found["tuned"]["contestants"].items():
            fast = row["times_as_fast"]
            share = f"{row['share_of_floor']:.0%}" if "share_of_floor" in row else ""
            against = " / ".join(
                f"{fast[a]:.2f}" if a in fast else "-" for a in ("system", "tuned")
            )
            spread = f"{row['p10_ms']:g} to {row['p90_ms']:g}"
            lines.append(
                f"| {name} | {label} | {row['median_ms']:g} ({spread}; {row['n']})"
                f" | {against} | {share} |"
            )
            name = ""
        for label, why in found["tuned"]["failed"].items():
            lines.append(f"| | {label} | fails: {why} | | |")
    return "\n".join(lines)


def busy_table(found: dict[str, Any]) -> str:
    """Medians on a quiet machine and beside a process that keeps every core busy."""
    lines = ["| workload | step | quiet, ms | busy, ms | times as long |", "|---|---|---|---|---|"]
    for name, rows in found.items():
        for label, row in rows.items():
            lines.append(
                f"| {name} | {label} | {row['quiet_ms']:g} | {row['busy_ms']:g}"
                f" | {row['times_as_long']:.1f} |"
            )
            name = ""
    return "\n".join(lines)


def _drawn(found: dict[str, Any]) -> dict[str, float]:
    """Medians by contestant, without our own slower engine."""
    rows = found["tuned"]["contestants"]
    return {label: row["median_ms"] for label, row in rows.items() if "autograd" not in label}


def draw(report: dict[str, Any]) -> None:
    from binomctl.reporting.figures import caption, new_figure, save
    from binomctl.reporting.look import COLOURS, tint

    names = list(report["workloads"])
    shown = {name: _drawn(report["workloads"][name]) for name in names}
    bars = [max(len(shown[name]) for name in names[i : i + 2]) for i in range(0, len(names), 2)]
    figure = new_figure(8.6, 0.14 * sum(bars) + 0.75 * len(bars))
    grid = figure.subplots(len(bars), 2, height_ratios=[n + 2 for n in bars])
    colours = {
        "learn2learn": tint(COLOURS[0], 0.4),
        "torch": COLOURS[7],
        "vmap": COLOURS[7],
        "binomctl": COLOURS[1],
        "JAX": COLOURS[3],
        "TorchOpt": COLOURS[4],
    }
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, names, strict=False):
        labels, values = list(shown[name])[::-1], list(shown[name].values())[::-1]
        axes.barh(labels, values, color=[colours[label.split()[0].split(".")[0].split("(")[0]]
                                         for label in labels])  # fmt: skip
        for i, value in enumerate(values):
            text = f" {value:,.0f}" if value >= 100 else f" {value:.3g}"
            axes.text(value, i, text, va="center", fontsize=6)
        axes.set_title("\n".join(textwrap.wrap(name, 52)), fontsize=7, loc="left")
        axes.tick_params(labelsize=6)
        axes.set_xlim(0, 1.18 * max(values))
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("ms per meta-step", fontsize=6)
    config = report["config"]
    counts = [row["n"] for found in report["workloads"].values()
              for row in found["tuned"]["contestants"].values()]  # fmt: skip
    caption(
        figure,
        f"Binom, L = {config['L']}, K = {config['K']}, {config['ways']}-way, {config['dtype']},"
        f" random data, alpha = 0.01; median of n = {min(counts)} to"
        f" {max(counts)} steps; tuned allocator",
    )
    save(figure, FIGURE)


def write(report: dict[str, Any]) -> None:
    """The result, the page's tables and the picture."""
    add_shares(report)
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    put(PAGE, "table", table(report))
    if "busy" in report:
        put(PAGE, "busy", busy_table(report["busy"]))
    draw(report)
