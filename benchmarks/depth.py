"""The picture of docs/concepts.md: sequential levels and products, from the formulas.

python benchmarks/depth.py
"""

from __future__ import annotations

from pathlib import Path

from binomctl.reporting.figures import caption, legend_below, new_figure, save, style
from binomctl.reporting.look import look

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "depth.svg"
K = 10


def levels(name: str, L: int) -> int:
    """Products that have to wait for one another."""
    return K if name == "maml" else L


def products(name: str, L: int) -> int:
    """Products of a task."""
    return {"maml": K, "trunc": L, "binom": L * (K - L + 1)}[name]


def main() -> None:
    figure = new_figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    orders = range(1, K + 1)
    for name in ("maml", "trunc", "binom"):
        # Binom's levels lie on Trunc's: larger and hollow, so that both are seen.
        ring = {"markersize": 9, "fillstyle": "none"} if name == "binom" else {}
        drawn = {**look(name), **ring}
        left.plot(orders, [levels(name, L) for L in orders], label=name, **drawn)
        right.plot(orders, [products(name, L) for L in orders], label=name, **drawn)
    style(left, "sequential levels (depth)", "L", "levels")
    style(right, "Hessian-vector products of a task (work)", "L", "products")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        axes.set_xticks(orders)
    caption(figure, f"K = {K}, from the formulas: no time is measured")
    legend_below(figure, [left, right])
    save(figure, FIGURE)


if __name__ == "__main__":
    main()
