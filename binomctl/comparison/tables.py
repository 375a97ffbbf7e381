"""Comparisons as tables of text: the paper's layout in Markdown or LaTeX, every number as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from binomctl.comparison.paired import LEVEL
from binomctl.comparison.report import Section
from binomctl.comparison.words import TIME, words

Format = Literal["md", "csv", "latex"]
FORMATS: tuple[Format, ...] = ("md", "csv", "latex")
COLUMNS = ("method", "mean ± s.e.", "difference (95% CI)", "p (Holm)", "time", "verdict")


@dataclass(frozen=True)
class Table:
    """Columns, rows of text, and what stands under them."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def overview(sections: Sequence[Section]) -> Table:
    """A row a method, a column a setting, mean ± s.e., as Table 1 of BinomGBML; a sign behind a
    number is a difference to the reference that Holm's correction leaves below 0.05."""
    compared = [s for s in sections if s.report is not None]
    cells: dict[str, dict[str, str]] = {}
    for section in compared:
        report = section.report or {}
        for pair in report["pairs"]:
            text = f"{words(pair, report).mean} {sign(pair, report)}".strip()
            cells.setdefault(pair["label"], {})[section.label] = text
    names = [s.label for s in compared]
    rows = [[label, *(row.get(name, "-") for name in names)] for label, row in cells.items()]
    first = (compared[0].report or {}) if compared else {}
    note = ""
    if first:
        note = (
            f"{first['metric']} (mean ± s.e. over test tasks); + and - : better and worse than"
            f" {first['reference']} at p < 0.05 after Holm's correction within the column."
        )
    return Table(["method", *names], rows, note)


def sign(pair: dict[str, Any], report: dict[str, Any]) -> str:
    """ "+" and "-" for better and worse than the reference, where the verdict says so."""
    if not pair["difference"] or pair["p_holm"] >= LEVEL:
        return ""
    return "+" if (pair["difference"] > 0) == report["higher_is_better"] else "-"


def details(section: Section) -> Table:
    """One setting: differences, p and verdicts."""
    report = section.report or {}
    rows = []
    for pair in report["pairs"]:
        one = words(pair, report)
        rows.append([one.label, one.mean, one.difference, one.p, one.time, one.verdict])
    over = " and ".join(sorted({p["over"] for p in report["pairs"]} - {None}))
    note = (
        f"s.e.: standard error of the mean over {report['n']:,} test tasks. Differences: in pairs,"
        f" Student t over {over}; p corrected by Holm. {TIME}"
    )
    return Table(COLUMNS, rows, note)


def csv_rows(sections: Sequence[Section]) -> Iterator[list[Any]]:
    """Every number of every pair, a line each, under the names of `compared`; its setting first."""
    pairs = [(s.label, p) for s in sections if s.report for p in s.report["pairs"]]
    names = [n for n in (pairs[0][1] if pairs else {}) if n not in ("runs", "checkpoint_steps")]
    yield ["setting", *names]
    for label, pair in pairs:
        yield [label, *(pair.get(name) for name in names)]


def as_text(sections: Sequence[Section], form: Format) -> str:
    """The tables of a comparison: of several settings the overview too."""
    if form == "csv":
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(csv_rows(sections))
        return file.getvalue()
    compared = [section for section in sections if section.report]
    many = len(compared) > 1
    tables = [("", overview(sections))] if many else []
    tables += [(section.label if many else "", details(section)) for section in compared]
    write = markdown if form == "md" else _latex
    return "\n".join(write(title, table) for title, table in tables)


def markdown(title: str, table: Table) -> str:
    """A table of pipes, its note below."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = line(["---", *["--:"] * (len(table.columns) - 1)])
    head = [f"**{title}**", ""] if title else []
    return "\n".join([*head, line(table.columns), rule, *map(line, table.rows), "", table.note, ""])


def _latex(title: str, table: Table) -> str:
    """For booktabs."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_escaped, cells)) + r" \\"

    columns = "l" + "r" * (len(table.columns) - 1)
    return "\n".join([
        *([f"% {title}"] if title else []),
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(table.columns), r"\midrule",
        *map(line, table.rows), r"\bottomrule", r"\end{tabular}", f"% {table.note}", "",
    ])  # fmt: skip


_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
