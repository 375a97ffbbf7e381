"""How sure a classifier is of its answers, and how often it is right when it is so sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 15
"""Of equal width, over the probability of the answer (Guo et al. 2017)."""


@dataclass(frozen=True)
class Confidence:
    """Of one task's queries: nll, the mean of -log p(y); bins [3, BINS], by the probability p of
    the answer: how many answers, the sum of their p, how many of them are right."""

    nll: float
    bins: list[list[float]]


def classifies(output: Any, y: Any) -> bool:
    """Whether predictions are logits [M, classes], for class indices [M]."""
    if not (isinstance(output, Tensor) and isinstance(y, Tensor)):
        return False
    return output.dim() == 2 and y.dim() == 1 and not y.is_floating_point()


def confidence_of(logits: Tensor, y: Tensor) -> Confidence:
    """Of logits [M, classes], or logarithms of probabilities, and class indices y [M]."""
    logits = logits.detach().double().cpu()
    y = y.cpu()
    sure, answer = logits.softmax(-1).max(-1)
    place = (sure * BINS).ceil().long().clamp(1, BINS) - 1
    right = (answer == y).double()
    bins = torch.zeros(3, BINS, dtype=torch.float64)
    for row, values in enumerate((torch.ones_like(sure), sure, right)):
        bins[row].scatter_add_(0, place, values)
    return Confidence(float(F.cross_entropy(logits, y)), bins.tolist())


def calibration(found: Sequence[Confidence]) -> dict[str, Any]:
    """The expected calibration error of all tasks' queries together, and the bins it is of.

    Returns:
        {"error", "queries", "bins": [{"from", "to", "n", "confidence", "accuracy"}]}; error is
        sum over the bins of n / N |accuracy - confidence| (Naeini et al. 2015), bins without
        an answer have null in place of their means.
    """
    total = torch.tensor([one.bins for one in found], dtype=torch.float64).sum(0)
    counts, sure, right = total.tolist()
    N = sum(counts)
    bins = [
        {
            "from": i / BINS, "to": (i + 1) / BINS, "n": round(n),
            "confidence": s / n if n else None, "accuracy": r / n if n else None,
        }
        for i, (n, s, r) in enumerate(zip(counts, sure, right, strict=True))
    ]  # fmt: skip
    gaps = (abs(r - s) for s, r in zip(sure, right, strict=True))
    return {"error": sum(gaps) / N if N else math.nan, "queries": round(N), "bins": bins}
