"""The picture of deflation in docs/concepts.md: a spectrum, and the error of every order.

    python benchmarks/deflation.py

From the formulas, of Hessians that stay along the path: the exact factor of an eigenvalue h is
(1 - a)^K with a = alpha h, an order L keeps the terms to a^L, and an eigenvalue that is carried is
exact at every order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from binomctl.reporting.figures import caption, legend_below, new_figure, save, style
from binomctl.reporting.look import look

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "deflation.svg"
K = 10
EIGENVALUES = 0.9 * 0.5 ** np.arange(12)  # of alpha H: a few are large, as in trained networks
CARRIED = {0: "binom", 1: "head", 3: "deflated"}  # r -> whose colour and marker draw it


def error(L: int, r: int) -> float:
    """Relative error of order L with the r largest eigenvalues carried, for a g with an equal part
    along every eigenvector."""
    rest: NDArray[np.float64] = EIGENVALUES[r:]
    orders = np.arange(L + 1, K + 1)[:, None]
    missing = (comb(K, orders) * (-rest) ** orders).sum(0)
    return float(np.linalg.norm(missing) / np.linalg.norm((1 - EIGENVALUES) ** K))


def main() -> None:
    figure = new_figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    places, most = range(1, len(EIGENVALUES) + 1), max(CARRIED)
    colours = [look("deflated" if i <= most else "binom")["color"] for i in places]
    left.bar(places, EIGENVALUES, color=colours)
    left.annotate("carried exactly\n(r = 3)", (2.2, 0.5), xytext=(4.2, 0.72), fontsize=9)
    left.annotate("expanded", (6, 0.04), xytext=(7.5, 0.1), fontsize=9)
    for r, name in CARRIED.items():
        label = f"r = {r}" if r else "r = 0: binom"
        right.plot(range(K), [error(L, r) for L in range(K)], label=label, **look(name))
    right.set_yscale("log")
    style(left, "eigenvalues of alpha H", "in order of size", "")
    style(right, "relative error of the meta-gradient", "L", "")
    left.set_xticks(places)
    right.set_xticks(range(K))
    caption(figure, f"K = {K}, from the formulas, for Hessians that stay along the path")
    legend_below(figure, [right])
    save(figure, FIGURE)


if __name__ == "__main__":
    main()
