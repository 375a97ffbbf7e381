"""Which orderings that papers report appear in the comparison's cells (comparison.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from binomctl.comparison.paired import Paired, paired

EXACT, FIRST = "maml", "fomaml"
PUBLISHED = (
    ("MAML above FOMAML, a little", "Finn et al. 2017", f"MAML, {EXACT}", f"MAML, {FIRST}"),
    ("BinomMAML above FOMAML", "BinomGBML 2026", "MAML, binom (L = 2)", f"MAML, {FIRST}"),
    ("ANIL equal to MAML", "Raghu et al. 2020", f"ANIL, {EXACT}", f"MAML, {EXACT}"),
    ("BOIL above MAML", "Oh et al. 2021", f"BOIL, {EXACT}", f"MAML, {EXACT}"),
    ("Meta-SGD above MAML", "Li et al. 2017", f"Meta-SGD, {EXACT}", f"MAML, {EXACT}"),
    ("Meta-Curvature above Meta-SGD", "Park and Oliva 2019", f"Meta-Curvature, {EXACT}",
     f"Meta-SGD, {EXACT}"),
    ("MAML++ above MAML", "Antoniou et al. 2019", f"MAML++, {EXACT}", f"MAML, {EXACT}"),
    ("UNICORN-MAML above MAML", "Ye and Chao 2022", f"UNICORN-MAML, {EXACT}", f"MAML, {EXACT}"),
    ("Proto-MAML above ProtoNet", "Triantafillou et al. 2020", f"Proto-MAML, {EXACT}",
     f"ProtoNet, {FIRST}"),
    ("Proto-MAML above MAML", "Triantafillou et al. 2020", f"Proto-MAML, {EXACT}",
     f"MAML, {EXACT}"),
    ("CAVIA above MAML", "Zintgraf et al. 2019", f"CAVIA, {EXACT}", f"MAML, {EXACT}"),
    ("ALFA above MAML", "Baik et al. 2020", f"ALFA, {EXACT}", f"MAML, {EXACT}"),
    ("T-net above MAML", "Lee and Choi 2018", f"T-net, {EXACT}", f"MAML, {EXACT}"),
    ("MT-net above T-net", "Lee and Choi 2018", f"MT-net, {EXACT}", f"T-net, {EXACT}"),
    ("WarpGrad above MAML", "Flennerhag et al. 2020", "WarpGrad, warpgrad", f"MAML, {EXACT}"),
    ("LEO above MAML", "Rusu et al. 2019", f"LEO, {EXACT}", f"MAML, {EXACT}"),
    ("Sign-MAML above FOMAML", "Fan et al. 2021", f"Sign-MAML, {FIRST}", f"MAML, {FIRST}"),
    ("iBaML above MAML", "Zhang et al. 2023", "iBaML, implicit (L = 5)", f"MAML, {EXACT}"),
    ("MAML above a linear head from zero", "", f"MAML, {EXACT}", f"Linear head, {EXACT}"),
)  # fmt: skip
"""What is said, by whom, and the labels of the better and the worse."""


def difference(kept: Mapping[str, Any], setting: str, above: str, below: str) -> Paired | None:
    """Mean test accuracy of one minus that of the other after all steps, in points, paired by seed;
    None where fewer than two seeds came to their end."""
    means: dict[str, dict[int, float]] = {above: {}, below: {}}
    for run in kept["runs"]:
        if run["setting"] == setting and run["label"] in means and "failure" not in run:
            scores = run["scores"][max(run["scores"], key=int)]
            means[run["label"]][run["seed"]] = 100 * sum(scores) / len(scores)
    seeds = sorted(means[above].keys() & means[below].keys())
    if len(seeds) < 2:
        return None
    return paired([means[above][seed] - means[below][seed] for seed in seeds])


def appears(found: Paired | None, equal: bool) -> str:
    """yes or no where the interval has a sign, open where it holds 0, diverged without one."""
    if found is None:
        return "diverged"
    if found.mean - found.ci95 <= 0 <= found.mean + found.ci95:
        return "open"
    return "yes" if found.mean > 0 and not equal else "no"


def orderings(kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every ordering in every setting: the difference, its 95% interval, and whether it appears."""
    out = []
    for said, source, above, below in PUBLISHED:
        for setting in kept["step_times"]:
            found = difference(kept, setting, above, below)
            row = {"published": said, "by": source, "setting": setting,
                   "appears": appears(found, " equal to " in said)}  # fmt: skip
            if found is not None:
                row |= {"n": found.n, "difference": round(found.mean, 2),
                        "ci95": round(found.ci95, 2)}  # fmt: skip
            out.append(row)
    return out


def table(rows: list[dict[str, Any]]) -> str:
    """A row for every ordering, a column for every setting."""
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    short = [setting.removeprefix("glyphs ") for setting in settings]
    lines = [f"| published | by | {' | '.join(short)} |", "|---|---|" + "---|" * len(short)]
    for i in range(0, len(rows), len(settings)):
        one = rows[i : i + len(settings)]
        cells = " | ".join(map(_cell, one))
        lines.append(f"| {one[0]['published']} | {one[0]['by']} | {cells} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if "difference" not in row:
        return str(row["appears"])
    mean, half = row["difference"], row["ci95"]
    word = f"**{row['appears']}** " if row["appears"] in ("yes", "no") else ""
    return f"{word}{mean:+.1f} ({mean - half:.1f} to {mean + half:.1f})"
