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


def verdict(found: Paired | None, equal: bool) -> str:
    """The difference with its 95% interval, and whether it says what is published."""
    if found is None:
        return "diverged"
    low, high = found.mean - found.ci95, found.mean + found.ci95
    sign = "" if low <= 0 <= high else "**yes** " if low > 0 and not equal else "**no** "
    return f"{sign}{found.mean:+.1f} ({low:.1f} to {high:.1f})"


def table(kept: Mapping[str, Any]) -> str:
    """A row for every ordering, a column for every setting."""
    settings = list(kept["step_times"])
    short = [setting.removeprefix("glyphs ") for setting in settings]
    lines = [f"| published | by | {' | '.join(short)} |", "|---|---|" + "---|" * len(short)]
    for said, source, above, below in PUBLISHED:
        equal = " equal to " in said
        cells = [verdict(difference(kept, setting, above, below), equal) for setting in settings]
        lines.append(f"| {said} | {source} | {' | '.join(cells)} |")
    return "\n".join(lines)
