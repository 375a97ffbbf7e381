"""Measured numbers of the pages, each computed from the result that a script kept.

A page marks where one stands (marks.py); `python docs/generate.py` writes it there.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

import kept_costs
from kept import RESULTS, Numbers, between, machine, percent, read

from binomctl.reporting.intervals import mean_ci95


def numbers() -> dict[str, str]:
    """Every number by its name, rounded as it is printed."""
    parts = (kept_costs.numbers, _demo, _errors, _table1, _beyond, _beyond_settings, _comparison,
             _weights, _data, _soak, _georgian, _inner_loops, _bilevel, _sweep,
             _source)  # fmt: skip
    return {name: text for part in parts for name, text in part()}


def _demo() -> Numbers:
    kept = read("demo")
    scored = kept["eval"]
    low, high = (scored["mean"] + sign * scored["ci95"] for sign in (-1, 1))
    yield "demo.steps", str(kept["train"]["steps"])
    yield "demo.seconds", f"{kept['train']['seconds']:.0f}"
    yield "demo.accuracy", percent(scored["mean"])
    yield "demo.interval", f"{percent(low)} to {percent(high)}"
    yield "demo.n", str(scored["n"])
    yield "demo.cores", str(kept["environment"]["cores"])
    yield "demo.rendered", f"{kept['glyphs_seconds']['rendered']:.1f}"
    yield "demo.cached", f"{kept['glyphs_seconds']['cached']:.2f}"


def _errors() -> Numbers:
    """Figures 3b and 3a."""
    kept = read("fig3b")
    rows = {(e["estimator"], e["L"], e["alpha_scaling"]): e["relative"]["mean"]
            for e in kept["report"]["errors"]}  # fmt: skip
    (n,) = {e["relative"]["n"] for e in kept["report"]["errors"]}
    yield "fig3b.n", f"{n:,}"
    yield "fig3b.seconds", f"{kept['seconds']:.0f}"
    for order in (1, 2, 4):
        trunc = rows["trunc", order, None]
        yield f"fig3b.trunc.{order}", f"{trunc:.2g}" if order < 4 else f"{trunc:.3f}"
        plain, scaled = rows["binom", order, "none"], rows["binom", order, "paper"]
        yield f"fig3b.binom.{order}", f"{plain:.2g}"
        yield f"fig3b.scaled.{order}", f"{scaled:.2g}"
    for name in ("fig3a", "fig3a-small", "fig3a-small-float32"):
        trunc, binom = (e["relative"]["values"] for e in read(name)["report"]["errors"])
        ratios = sorted(t / b for t, b in zip(trunc, binom, strict=True))
        yield f"{name}.ratio", _large(statistics.median(ratios))
        tenth, rest = ratios[len(ratios) // 10], ratios[9 * len(ratios) // 10]
        yield f"{name}.spread", f"{tenth:.0e} to {rest:.0e}".replace("e+0", "e")


def _large(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio < 1000 else f"{ratio:.1e}".replace("e+0", "e")


def _table1() -> Numbers:
    """What the letters' table says in words, counted."""
    settings = {s["setting"]: {p["label"]: p for p in s["report"]["pairs"]}
                for s in read("table1_glyphs")["settings"]}  # fmt: skip
    cells = [p for s in settings.values() for p in s.values() if p["difference"] is not None]
    yield "table1.methods", str(len(next(iter(settings.values()))))
    yield "table1.differences", str(len(cells))
    yield "table1.separable", str(sum(p["p_holm"] < 0.05 for p in cells))

    def means(label: str) -> list[float]:
        return [s[label]["mean"] for s in settings.values()]

    exact = means("maml")
    for scaling in ("paper", "none"):
        over_trunc, over_exact, below = 0, 0, []
        for order in range(1, 5):
            binom = means(f"binom (L = {order}, alpha_scaling = {scaling})")
            over_trunc += sum(
                b > t for b, t in zip(binom, means(f"trunc (L = {order})"), strict=True)
            )
            over_exact += sum(b > e for b, e in zip(binom, exact, strict=True))
            below += [e - b for b, e in zip(binom, exact, strict=True)]
        yield f"table1.{scaling}.over-trunc", str(over_trunc)
        yield f"table1.{scaling}.over-exact", str(over_exact)
        yield f"table1.{scaling}.below-exact", str(sum(gap > 0 for gap in below))
        yield f"table1.{scaling}.cells", str(len(below))
        yield f"table1.{scaling}.worst", f"{100 * max(below):.0f}"
    shown = {"maml": "maml", "fomaml": "fomaml", "trunc4": "trunc (L = 4)",
             "binom4": "binom (L = 4, alpha_scaling = paper)", "auto": "auto",
             "imaml4": "imaml (L = 4, lam = 100.0, variant = authors)",
             "reptile": "reptile, meta_lr=1.0, optimizer=sgd, schedule=linear"}  # fmt: skip
    for setting, pairs in settings.items():
        for short, label in shown.items():
            mean, error = (f"{100 * pairs[label][key]:.1f}" for key in ("mean", "standard_error"))
            where = setting.removeprefix("glyphs ").replace(" ", "-")
            yield f"table1.{where}.{short}", f"{mean} ± {error}"
    first = sum(f < e for f, e in zip(means("fomaml"), exact, strict=True))
    yield "table1.first-below", str(first)
    yield "table1.auto-above", str(sum(a > e for a, e in zip(means("auto"), exact, strict=True)))


def _beyond() -> Numbers:
    """Accuracies at equal meta-steps, with Student's t over the seeds."""
    runs = read("accuracy_glyphs")["runs"]
    scores: dict[str, list[float]] = {}
    for run in runs:
        scores.setdefault(run["method"], []).append(statistics.mean(run["accuracies"]))
    for method, short in (("head m=2", "head2"), ("trunc L=2", "trunc2"), ("maml", "maml")):
        found = mean_ci95(scores[method])
        mean, half = found.mean, found.ci95
        yield (
            f"beyond.{short}",
            f"{percent(mean)} ({100 * (mean - half):.1f} to {100 * (mean + half):.1f})",
        )
    yield "beyond.seeds", str(len(scores["maml"]))


def _comparison() -> Numbers:
    """Published orderings of methods in the cells of benchmarks/comparison.py."""
    found = read("comparison_glyphs").get("orderings", [])
    yield "comparison.orderings", str(len({one["published"] for one in found}))
    for word in ("yes", "no", "open"):
        yield f"comparison.{word}", str(sum(one["appears"] == word for one in found))


def _beyond_settings() -> Numbers:
    """What docs/beyond.md says in words of two of its settings."""

    def setting(workload: str, alpha: float) -> Any:
        (found,) = [s for s in read("beyond")["settings"] if (s["workload"], s["phase"], s["K"],
                    s["alpha"]) == (workload, "initial", 5, alpha)]  # fmt: skip
        return found

    along = setting("resnet12", 0.1)["alpha_Hg_over_g"]
    yield "beyond.resnet12", f"{min(along):.1f} to {max(along):.1f}"
    errors = {(e["estimator"], json.dumps(e["options"])): e["median"]
              for e in setting("sinusoid", 0.01)["estimators"]}  # fmt: skip
    gains = [errors["binom", plain] / errors["minimax", plain]
             for plain in (json.dumps({"L": order}) for order in (2, 3))]  # fmt: skip
    yield "beyond.gain", f"{min(gains):.0f} to {max(gains):.0f}"
    settings = read("beyond")["settings"]
    shares = []
    for one in settings:
        seconds = {e["estimator"]: e.get("seconds") for e in one["estimators"]
                   if e["estimator"] in ("maml", "fomaml")}  # fmt: skip
        if seconds["maml"] and seconds["fomaml"]:
            shares.append(100 * seconds["fomaml"] / seconds["maml"])
    yield "beyond.first", f"{between(shares, 0)}%"
    (long,) = [s for s in settings if (s["workload"], s["phase"], s["K"], s["alpha"])
               == ("sinusoid", "initial", 20, 0.01)]  # fmt: skip
    (deep,) = [e for e in long["estimators"]
               if e["estimator"] == "deflated" and e["options"] == {"L": 2, "r": 3}]  # fmt: skip
    yield "beyond.deep", f"{deep['median']:.2g}"
    yield "beyond.deep.depth", str(deep["depth"])


def _weights() -> Numbers:
    """Fitted weights on top of a deflation that converges."""
    rows = [r for r in read("deflated_weights")["rows"] if r["r"] and r["taylor"] < 1]
    gains = [100 * (1 - r["fitted"] / r["taylor"]) for r in rows]
    less = [gain for gain in gains if gain > 0]
    yield "weights.rows", str(len(gains))
    yield "weights.less", str(len(less))
    yield "weights.gain", f"{between(less, 0)}%"


def _data() -> Numbers:
    kept, small = read("data"), read("data_small")
    yield "data.images", f"{kept['images']:,}"
    prepared = kept["images"] * 84 * 84 * 3  # a byte a pixel and channel
    yield "data.source", f"{kept['source_bytes'] / 1e9:.1f} GB"
    yield "data.prepared", f"{prepared / 1e9:.1f} GB"
    yield "data.files", f"{(prepared + kept['source_bytes']) / 1e9:.0f} GB"
    yield "data.few", f"{small['images']:,}"
    yield "data.seconds", f"{kept['prepare']['seconds']:.0f}"
    yield "data.rate", f"{kept['prepare']['images_per_second']:,}"
    yield "data.peak", f"{kept['prepare']['peak_resident_bytes'] / 1e9:.2f}"
    yield "data.open", f"{kept['open_seconds']['median']:.3f}"
    yield "data.first", f"{kept['first_draw_cpu_ms']['median']:.0f}"
    for where, name, short in (
        (kept, "draw_cpu_ms", "draw"), (small, "draw_cpu_ms", "small"),
        (small, "draw_flip_crop_cpu_ms", "crop"), (small, "draw_flip_crop_turn_cpu_ms", "turn"),
    ):  # fmt: skip
        of = where[name]
        yield f"data.{short}", f"{of['median']:.1f}"
        yield f"data.{short}.low", f"{of['p10']:.1f}"
        yield f"data.{short}.high", f"{of['p90']:.1f}"


def _soak() -> Numbers:
    kept = read("soak")
    yield from ((f"soak.{name}", text) for name, text in machine(kept))
    yield "soak.steps", f"{kept['steps']:,}"
    yield "soak.kills", str(kept["kills"])
    yield "soak.first", f"{min(kept['killed_after_steps']):,}"
    yield "soak.last", f"{max(kept['killed_after_steps']):,}"
    saved = kept["checkpoints"]
    yield "soak.share", percent(saved["share"], 2)
    yield "soak.saves", str(saved["saves"])
    yield "soak.save", f"{1000 * saved['save_seconds'] / saved['saves']:.0f}"


def _georgian() -> Numbers:
    for row in read("georgian")["rows"]:
        mean, (low, high) = row["accuracy"]["mean"], row["accuracy"]["ci95"]

        def short(share: float) -> str:
            return "100" if share == 1 else f"{100 * share:.1f}"

        yield (f"georgian.{row['seed']}.{row['steps']}",
               f"{short(mean)}% ({short(low)} to {short(high)})")  # fmt: skip


def _inner_loops() -> Numbers:
    kept = read("inner_loops")
    gaps = kept["paired"]["binom L=2"]
    for kind in ("seed", "task"):
        gap = gaps[f"minus_fomaml_by_{kind}"]
        low, high = gap["mean"] - gap["ci95"], gap["mean"] + gap["ci95"]
        yield f"inner.gap.{kind}", f"{gap['mean']:+.3f} ({low:.3f} to {high:.3f})"
    (at,) = [row["inner_gradient"] for row in kept["damping"] if row["epsilon_root"] == 1e-4]
    best = min(kept["damping"], key=lambda row: float(row["validation"]["mean"]))
    yield "inner.lowest", f"{best['epsilon_root']:g}"
    widths = [e["relative"]["ci95"] / e["relative"]["mean"] for loop in kept["errors"].values()
              for e in loop["report"]["errors"] if e["L"] == 4]  # fmt: skip
    yield "inner.widest", f"{max(widths):.1f}"
    yield "inner.median", f"{at['median_of_others']:.3f}"
    yield "inner.zero", percent(at["share_zero"], 0)
    for loop, short in (("Adam", "adam"), ("Adam, epsilon_root = 0", "sharp")):
        errors = kept["errors"][loop]["report"]["errors"]
        for error in errors:
            if error["estimator"] in ("fomaml", "binom"):
                order = error["L"] or 0
                yield f"inner.{short}.{order}", f"{error['relative']['mean']:.2g}"


def _bilevel() -> Numbers:
    rows = read("bilevel")["rows"]
    yield "bilevel.plain", f"{rows['plain torch, reverse mode']['ratio']:.2f}"
    ours = rows["ours, implicit CG 10"]["milliseconds"]
    theirs = [row["milliseconds"] / ours for name, row in rows.items()
              if name.startswith("plain torch, implicit")]  # fmt: skip
    yield "bilevel.implicit", f"{min(theirs):.1f} to {max(theirs):.1f}"


def _source() -> Numbers:
    """What `wc -l` says of the kernels."""
    folder = RESULTS.parents[1] / "binomctl" / "curvature" / "analytic" / "kernels"
    files = [path for path in folder.iterdir() if path.suffix in (".c", ".h")]
    yield "kernels.lines", str(sum(path.read_bytes().count(b"\n") for path in files))


def _sweep() -> Numbers:
    """The letters' Table 1 as a sweep."""
    runs = read("table1_runs")["runs"]
    yield "sweep.cells", str(len(runs))
    yield "sweep.hours", f"{sum(run['seconds'] for run in runs) / 3600:.1f}"
