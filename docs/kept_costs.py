"""Measured times and memory of the pages."""

from __future__ import annotations

from typing import Any

from kept import MIB, Numbers, between, machine, percent, read


def numbers() -> Numbers:
    """Each by its name, rounded as it is printed."""
    for part in (_speed, _start, _overheads, _allocator, _profile, _memory):
        yield from part()


def _speed() -> Numbers:
    """learn2learn with the allocator as it is, ours with the tuned one."""
    whole = read("speed")
    kept = whole["workloads"]
    yield from ((f"speed.{name}", text) for name, text in machine(whole))
    names = {"mlp": "sinusoid MLP, B = 25", "conv28": "Conv4-32 28x28x1, 1-shot",
             "conv84": "Conv4-32 84x84x3, 1-shot",
             "five28": "Conv4-32 28x28x1, 5-shot"}  # fmt: skip
    for short, start in (("resnet12", "ResNet12 (16"), ("wide12", "ResNet12 (64"), ("wrn", "WRN"),
                         ("vit", "ViT"), ("transformer", "Transformer")):  # fmt: skip
        (names[short],) = [name for name in kept if name.startswith(start)]
    for short, name in names.items():
        allocators = [how for how in ("system", "tuned") if how in kept[name]]
        theirs = kept[name][allocators[0]]["contestants"]["learn2learn MAML"]["median_ms"]
        tuned = kept[name]["tuned"]["contestants"]
        ours = tuned["binomctl MAML"]["median_ms"]
        digits = 0 if ours > 10 else 1
        yield f"speed.{short}.theirs", f"{theirs:,.0f}"
        yield f"speed.{short}.ours", f"{ours:,.{digits}f}"
        yield f"speed.{short}.times", f"{theirs / ours:.{0 if short == 'mlp' else 1}f}"
        both = [kept[name][how]["contestants"]["learn2learn MAML"]["median_ms"]
                for how in allocators]  # fmt: skip
        for order, word in (("MAML", "both"), ("FOMAML", "first")):
            mine = tuned[f"binomctl {order}"]["median_ms"]
            yield f"speed.{short}.{word}", between([one / mine for one in both])
        for way in ("vjp", "jvp"):
            other = tuned.get(f"vmap({way}(grad)), Binom(2)")
            if other:  # with the same cascade
                ratio = other["median_ms"] / tuned["binomctl Binom(2)"]["median_ms"]
                yield f"speed.{short}.{way}", f"{ratio:.1f}"
        for order in ("MAML", "FOMAML"):
            jax = [row["median_ms"] for label, row in tuned.items() if f"JAX {order}," in label]
            if jax:  # in its faster form
                yield (
                    f"speed.{short}.jax.{order}",
                    f"{min(jax) / tuned[f'binomctl {order}']['median_ms']:.1f}",
                )
        if "share_of_floor" in tuned["binomctl MAML"]:
            for order, end in (("MAML", ""), ("Binom(2)", ".binom"), ("FOMAML", ".fomaml")):
                share = tuned[f"binomctl {order}"]["share_of_floor"]
                yield f"speed.{short}.share{end}", percent(share, 0)
            theirs = tuned["learn2learn MAML"]["share_of_floor"]
            yield f"speed.{short}.share.theirs", percent(theirs, 0)
            yield f"speed.{short}.most", f"{1 / theirs:.1f}"
    for short in ("transformer", "vit"):
        rows = whole["peaks"][names[short]].values()
        words = ("theirs", "store", "recompute")
        for word, row in zip(words, rows, strict=True):
            yield f"speed.{short}.mib.{word}", str(row["beyond_the_start_mib"])
        yield f"speed.{short}.product", f"{whole['products'][names[short]]['ratio']:.1f}"
    for short in ("mlp", "conv28"):
        rows = whole["busy"][names[short]]
        mine = [row["times_as_long"] for label, row in rows.items() if label.startswith("binomctl")]
        others = [
            row["times_as_long"] for label, row in rows.items() if not label.startswith("binomctl")
        ]
        yield f"speed.busy.{short}", between(mine)
        yield f"speed.busy.{short}.others", between(others)


def _start() -> Numbers:
    """When commands say their first word, and are done."""
    kept = read("start")
    commands = kept["commands"]
    yield "start.rounds", str(kept["rounds"])
    yield "start.help", f"{commands['--help']['done']['median']:.2f}"
    yield "start.first", f"{max(row['first']['median'] for row in commands.values()):.1f}"
    (sinusoid,) = (row for name, row in commands.items() if name.startswith("train"))
    yield "start.sinusoid", f"{sinusoid['done']['median']:.1f}"


def _overheads() -> Numbers:
    """What a step of training costs besides its meta-gradient."""
    kept = read("overheads")
    yield from ((f"overheads.{name}", text) for name, text in machine(kept))
    binom, maml, sinusoid = kept["runs"].values()
    shares = [run["stretch"]["besides_share"] for run in (binom, maml)]
    yield "overheads.glyphs", f"{percent(min(shares), 0)} to {percent(max(shares), 0)}"
    yield "overheads.sinusoid", percent(sinusoid["stretch"]["besides_share"], 0)
    checked = binom["validation_ms"]
    yield "overheads.validation", f"{checked['autograd'] / checked['auto']:.1f}"


def _allocator() -> Numbers:
    """A step of exact MAML with glibc's own settings and with ours."""
    kept = read("speed")["allocators"]
    for short, name in (("28", "Conv4-32 28x28x1, 1-shot"), ("84", "Conv4-32 84x84x3, 1-shot")):
        rows = kept[name]
        digits = 0 if short == "84" else 1
        for how in ("system", "tuned"):
            yield f"allocator{short}.{how}", f"{rows[how]['median_ms']:.{digits}f}"
            yield f"allocator{short}.{how}.peak", f"{rows[how]['peak_resident_mib']:,}"
        times = rows["system"]["median_ms"] / rows["tuned"]["median_ms"]
        yield f"allocator{short}.times", f"{times:.1f}"
        yield f"allocator{short}.before", str(rows["tuned"]["resident_before_mib"])


def _profile() -> Numbers:
    yield from ((f"profile.{name}", text) for name, text in machine(read("profile_glyphs")))
    for name in ("glyphs", "fig4"):
        cells = {(c["estimator"], c["L"]): c for c in read(f"profile_{name}")["cells"]}
        for key, short in ((("maml", None), "maml"), (("binom", 2), "binom2")):
            yield f"profile.{name}.{short}", f"{cells[key]['step_ms']['median']:.0f}"


def _memory() -> Numbers:
    kept = read("memory")

    def peak(rows: list[dict[str, Any]], **wanted: Any) -> tuple[int, int]:
        (row,) = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
        return row["peak_bytes"], row["peak_bytes"] - row["trajectory_bytes"]

    steps, orders = kept["maml_over_K"], kept["binom_over_L_at_K_10"]
    for schedule, short in (("store", "store"), ("recompute, rows", "recompute")):
        of = [peak(steps, engine="analytic", schedule=schedule, K=k) for k in (50, 5)]
        at = 0 if short == "store" else 1
        yield f"memory.{short}", f"{of[0][at] / of[1][at]:.{1 if short == 'store' else 2}f}"
    for order in (1, 10):
        found = peak(orders, engine="analytic", schedule="recompute, columns in parallel", L=order)
        yield f"memory.columns.{order}", f"{found[0] / MIB:.{0 if order == 1 else 1}f}"
