"""`binomctl profile` on the workloads of this folder, and `--plan` predicted against measured.

    python benchmarks/profile_workloads.py [--only NAME]
    python benchmarks/profile_workloads.py --draw           draw again from the kept JSON

Writes benchmarks/results/profile_*.json, docs/figures/profile_*.svg and the tables of
docs/profile.md. Seed 0; the machine and the date are in the JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pages import put

from binomctl.reporting.figure_profile import draw_profile

ROOT = Path(__file__).parents[1]
RESULTS, FIGURES = ROOT / "benchmarks/results", ROOT / "docs/figures"
PAGE = ROOT / "docs/profile.md"
WORKLOADS = {
    "glyphs": ["--dataset", "glyphs"],
    "sinusoid": ["--dataset", "sinusoid"],
    "fig4": ["--config", str(ROOT / "configs/fig4.yaml")],
}
PLANS = {
    "no budget": [],
    "100 ms": ["--time-budget", "100ms"],
    "70 MiB": ["--memory-budget", "70MiB"],
    "fig4, 1 GiB": ["--config", str(ROOT / "configs/fig4.yaml"), "--memory-budget", "1GiB"],
    "sinusoid, 7 ms": ["--dataset", "sinusoid", "--time-budget", "7ms"],
}


def profile(arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "binomctl", "profile", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def table(report: dict[str, Any]) -> str:
    lines = [
        "| estimator | L | step: median (p10 to p90; n), ms | adaptation / query / meta-gradient,"
        " ms | peak memory of a step (resident before it), MiB | HVPs, depth | of a matrix"
        " product's rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in report["cells"]:
        s, p, m = c["step_ms"], c["phases_ms"], c["memory"]
        parts = " / ".join(
            f"{p[n]['median']:.3g}" for n in ("adaptation", "query", "meta_gradient")
        )
        lines.append(
            f"| {c['estimator']} | {'' if c['L'] is None else c['L']} | {s['median']:.4g}"
            f" ({s['p10']:.4g} to {s['p90']:.4g}; {s['n']}) | {parts}"
            f" | {m['bytes'] / 2**20:.1f} ({m['baseline_bytes'] / 2**20:.0f})"
            f" | {c['hvps']}, {c['depth']} | {c['share_of_peak']['matrix_product']:.0%} |"
        )
    return "\n".join(lines)


def plan_table(plans: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| budget | chosen | memory, chunk | predicted / measured: time | memory |",
        "|---|---|---|---|---|",
    ]
    for budget, plan in plans.items():
        c = plan["chosen"]
        name = c["estimator"] + ("" if c["L"] is None else f" L = {c['L']}")
        ratio = c["predicted_over_measured"]
        lines.append(
            f"| {budget} | {name} | {c['memory']}, {c['task_chunk']}"
            f" | {1e3 * c['predicted']['seconds']:.3g} / {1e3 * c['measured']['seconds']:.3g} ms ="
            f" {ratio['seconds']:.2f} | {c['predicted']['bytes'] / 2**20:.0f} /"
            f" {c['measured']['bytes'] / 2**20:.0f} MiB = {ratio['bytes']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only")
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    only = args.only
    if args.draw:
        for name in WORKLOADS:
            report = json.loads((RESULTS / f"profile_{name}.json").read_text())
            draw_profile(report, FIGURES / f"profile_{name}.svg")
        return
    for name, arguments in WORKLOADS.items():
        if only in (None, name):
            report = profile(arguments)
            (RESULTS / f"profile_{name}.json").write_text(json.dumps(report, indent=1) + "\n")
            draw_profile(report, FIGURES / f"profile_{name}.svg")
            put(PAGE, name, f"{report['caption']}.\n\n{table(report)}")
            print(name, flush=True)
    if only in (None, "plans"):
        plans = {budget: profile(["--plan", *more]) for budget, more in PLANS.items()}
        (RESULTS / "profile_plans.json").write_text(json.dumps(plans, indent=1) + "\n")
        put(PAGE, "plans", plan_table(plans))


if __name__ == "__main__":
    main()
