"""Tables and pictures of benchmarks/beyond.py's result, in docs/beyond.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import put

from binomctl.reporting.figures import caption, legend_below, new_figure, save, style
from binomctl.reporting.look import looks

ROOT = Path(__file__).parents[1]
PAGE, FIGURES = ROOT / "docs/beyond.md", ROOT / "docs/figures"
SHOWN = [
    ("sinusoid", "initial", 5, 0.01), ("sinusoid", "trained", 5, 0.01),
    ("sinusoid", "initial", 20, 0.01), ("sinusoid", "trained", 20, 0.01),
    ("sinusoid", "initial", 100, 0.001), ("glyphs", "initial", 5, 0.1),
    ("glyphs", "trained", 5, 0.1), ("glyphs", "trained", 20, 0.1),
    ("transformer", "trained", 5, 0.1), ("resnet12", "initial", 5, 0.1),
]  # fmt: skip
FAMILIES = ["trunc", "binom", "binom, alpha'", "minimax", "calibrated", "head", "head + order",
            "deflated", "deflated, nodes", "krylov", "unbiased", "auto"]  # fmt: skip

OPTIONED = {"binom, alpha'": "binom", "head + order": "head", "deflated, nodes": "deflated"}
LOOKS = looks([(OPTIONED.get(name, name), name) for name in FAMILIES])


def name_of(row: dict[str, Any]) -> str:
    options = ", ".join(f"{k} = {v}" for k, v in row["options"].items() if k != "alpha_scaling")
    scaled = ", alpha' = L alpha / K" if "alpha_scaling" in row["options"] else ""
    return f"{row['estimator']}({options}{scaled})" if options else row["estimator"]


def family(row: dict[str, Any]) -> str:
    name, options = row["estimator"], row["options"]
    if name == "binom" and "alpha_scaling" in options:
        return "binom, alpha'"
    if name == "head" and options.get("L"):
        return "head + order"
    return "deflated, nodes" if name == "deflated" and "q" in options else str(name)


def best(rows: list[dict[str, Any]], **limits: int) -> dict[str, Any] | None:
    """The least median error within limits of products and depth."""
    fit = [r for r in rows if r["median"] is not None
           and all(r[key] <= value for key, value in limits.items())]  # fmt: skip
    return min(fit, key=lambda r: r["median"], default=None)


def at(report: dict[str, Any], which: tuple[str, str, int, float]) -> dict[str, Any] | None:
    return next(
        (s for s in report["settings"]
         if (s["workload"], s["phase"], s["K"], s["alpha"]) == which), None
    )  # fmt: skip


def tables(report: dict[str, Any]) -> str:
    return "\n".join([_where(report), _aims(report), *_tables(report), _never_worse(report)])


def write_page(report: dict[str, Any]) -> None:
    put(PAGE, "tables", tables(report))
    _draw(report, "products", FIGURES / "beyond-products.svg")
    _draw(report, "depth", FIGURES / "beyond-depth.svg")


def _where(report: dict[str, Any]) -> str:
    e = report["environment"]
    return (
        f"Measured {e['date'][:10]} on {e['cpu']}, {e['cores']} cores, torch"
        f" {e['packages']['torch']}"
        f" ({len(report['settings'])} settings; seeds of the workloads' configurations, seed 0)."
        " Each cell: median relative error of the meta-gradient over the tasks (95% interval of the"
        " median by order statistics), products a task, depth.\n"
    )


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["median"] is None:
        return "-"
    low, high = row["ci95"]
    return f"{row['median']:.2g} ({low:.2g} to {high:.2g})"


def _tables(report: dict[str, Any]) -> list[str]:
    out = []
    for which in SHOWN:
        found = at(report, which)
        if found is None:
            continue
        workload, phase, K, alpha = which
        steep = ", ".join(f"{v:.2g}" for v in found["alpha_Hg_over_g"][:5])
        more = ", ..." if K > 5 else ""
        out.append(
            f"\n### {workload}, {phase}, K = {K}, alpha = {alpha:g}\n\n"
            f"alpha |H_k g| / |g| along the path: {steep}{more}; n = {found['tasks']} tasks.\n\n"
            "| estimator | products | depth | relative error | seconds |\n|---|---|---|---|---|"
        )
        for name in FAMILIES:
            rows = [r for r in found["estimators"] if family(r) == name and r["products"] <= 2 * K]
            for row in sorted(_frontier(rows), key=lambda r: r["products"]):
                seconds = "-" if row["seconds"] is None else f"{row['seconds']:.3f}"
                out.append(f"| {name_of(row)} | {row['products']} | {row['depth']} | {_cell(row)} |"
                           f" {seconds} |")  # fmt: skip
        exact = next(r for r in found["estimators"] if r["estimator"] == "maml")
        if exact["seconds"] is not None:
            out.append(f"| maml | {K} | {K} | exact | {exact['seconds']:.3f} |")
    return out


def _frontier(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that no other of the family beats at its products and depth; three at most."""
    rows = [r for r in rows if r["median"] is not None]
    kept = [
        r for r in rows
        if not any(o["median"] < r["median"] and o["products"] <= r["products"]
                   and o["depth"] <= r["depth"] for o in rows)
    ]  # fmt: skip
    kept.sort(key=lambda r: r["products"])
    return kept if len(kept) <= 3 else [kept[0], kept[len(kept) // 2], kept[-1]]


def _aims(report: dict[str, Any]) -> str:
    """The five aims, each with what was found."""
    lines = ["\n| aim | setting | found | met |", "|---|---|---|---|"]

    def line(aim: str, which: tuple[str, str, int, float], row: Any, ok: bool, more: str) -> None:
        said = "nothing" if row is None else (
            f"{name_of(row)}: {_cell(row)}, {row['products']} products, depth {row['depth']}"
        )  # fmt: skip
        where = f"{which[0]}, {which[1]}, K = {which[2]}, alpha = {which[3]:g}"
        lines.append(f"| {aim} | {where} | {said}{more} | {'yes' if ok else 'no'} |")

    ours = {"head", "steps", "deflated", "krylov", "minimax", "calibrated", "auto"}
    for which in (("sinusoid", "initial", 5, 0.01), ("sinusoid", "trained", 5, 0.01),
                  ("transformer", "initial", 5, 0.01)):  # fmt: skip
        if (found := at(report, which)) is None:
            continue
        for L in (2, 3):
            rows = found["estimators"]
            base = next(r for r in rows if r["estimator"] == "binom"
                        and r["options"] == {"L": L})  # fmt: skip
            row = best([r for r in rows if r["estimator"] in ours], depth=L)
            ok = row is not None and row["median"] <= base["median"] / 10
            line(f"1: a tenth of Binom's error at depth {L}", which, row, ok,
                 f"; binom {_cell(base)}")  # fmt: skip
    for which in (("sinusoid", "initial", 20, 0.01), ("sinusoid", "trained", 20, 0.01),
                  ("glyphs", "trained", 20, 0.1),
                  ("transformer", "trained", 20, 0.01)):  # fmt: skip
        if (found := at(report, which)) is not None:
            row = best([r for r in found["estimators"] if r["estimator"] in ours], depth=4,
                       products=23)  # fmt: skip
            line("2: at most 0.05 at depth 4, 23 products", which, row,
                 row is not None and row["median"] <= 0.05, "")  # fmt: skip
    for which in (("sinusoid", "initial", 100, 0.001), ("sinusoid", "trained", 100, 0.001)):
        if (found := at(report, which)) is not None:
            row = best([r for r in found["estimators"] if r["estimator"] in ours], products=35)
            line("3: at most 0.01 with 35 products", which, row,
                 row is not None and row["median"] <= 0.01, "")  # fmt: skip
    for which in (("glyphs", "initial", 5, 0.1), ("glyphs", "trained", 5, 0.1)):
        if (found := at(report, which)) is None:
            continue
        rows = found["estimators"]
        for L in (2, 3):
            base = next(r for r in rows if r["estimator"] == "trunc" and r["options"]["L"] == L)
            row = best([r for r in rows if r["estimator"] in ours], products=L)
            line(f"4: half of Trunc's error at {L} products", which, row,
                 row is not None and row["median"] <= base["median"] / 2,
                 f"; trunc {_cell(base)}")  # fmt: skip
    which = ("sinusoid", "trained", 20, 0.01)
    for which in (("sinusoid", "initial", 20, 0.01), ("glyphs", "trained", 20, 0.1)):
        found = at(report, which)
        if found is None:
            continue
        exact = next(r for r in found["estimators"] if r["estimator"] == "maml")
        good = [r for r in found["estimators"] if r["estimator"] in ours and r["median"] is not None
                and r["median"] <= 0.05 and r["seconds"]]  # fmt: skip
        row = min(good, key=lambda r: r["seconds"], default=None)
        share = row["seconds"] / exact["seconds"] if row and exact["seconds"] else None
        line("5: half of exact MAML's seconds at 0.05", which, row,
             share is not None and share <= 0.5,
             "" if share is None else f"; {share:.2f} of exact MAML's seconds")  # fmt: skip
    return "\n".join(lines)


def _never_worse(report: dict[str, Any]) -> str:
    """auto against trunc at its products."""
    worse = []
    settings = 0
    for s in report["settings"]:
        auto = next((r for r in s["estimators"] if r["estimator"] == "auto"), None)
        cut = [r for r in s["estimators"] if r["estimator"] == "trunc"]
        if auto is None or auto["median"] is None:
            continue
        settings += 1
        at_most = best(cut, products=auto["products"])
        if at_most is not None and auto["median"] > 1.05 * at_most["median"]:
            worse.append((s, auto, at_most))
    text = f"\nauto (tolerance 0.05), chosen on one batch and judged on others: in {len(worse)} of "
    text += f"{settings} settings its median error is more than 5% above Trunc's at its products."
    for s, auto, cut_row in worse:
        text += (f" {s['workload']}, {s['phase']}, K = {s['K']}, alpha = {s['alpha']:g}:"
                 f" {auto['median']:.2g} against {cut_row['median']:.2g}.")  # fmt: skip
    return text


def _draw(report: dict[str, Any], key: str, path: Path) -> None:
    """The least relative error with so many products or levels at most, one panel a setting."""
    panels = [(w, s) for w in SHOWN if (s := at(report, w)) is not None][:8]
    if not panels:
        return
    figure = new_figure(11.0, 2.9 * ((len(panels) + 2) // 3))
    grid = list(figure.subplots((len(panels) + 2) // 3, 3, squeeze=False).flat)
    for axes, (which, setting) in zip(grid, panels, strict=False):
        for name, how in zip(FAMILIES, LOOKS, strict=True):
            if key == "depth" and name in ("auto", "unbiased"):  # what they choose, or is drawn
                continue
            rows = [r for r in setting["estimators"] if family(r) == name and r["median"] and r[key]
                    and 1e-14 < r["median"] < 1e3 and r[key] <= 2 * which[2]]  # fmt: skip
            at_least: dict[int, float] = {}
            for r in rows:
                at_least[r[key]] = min(r["median"], at_least.get(r[key], float("inf")))
            points: list[tuple[int, float]] = []  # the least error with so many at most
            for x, y in sorted(at_least.items()):
                if not points or y < points[-1][1]:
                    points.append((x, y))
            axes.plot([x for x, _ in points], [y for _, y in points], label=name, lw=1, **how)
        axes.set_yscale("log")
        if which[2] >= 20:
            axes.set_xscale("log")
        style(axes, f"{which[0]}, {which[1]}, K = {which[2]}, alpha = {which[3]:g}",
              f"{key} a task" if key == "products" else key, "relative error")  # fmt: skip
    for axes in grid[len(panels) :]:
        axes.axis("off")
    counts = [setting["tasks"] for _, setting in panels]
    caption(
        figure,
        f"median relative error of the meta-gradient, n = {min(counts)} to {max(counts)} tasks,"
        " float64 (resnet12: float32); data set, state, K and alpha over each panel",
    )
    legend_below(figure, grid[: len(panels)])
    save(figure, path)
