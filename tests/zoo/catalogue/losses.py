"""Every loss of torch.nn.functional with its options, and one's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import (
    Net,
    distributions,
    integers,
    normal,
    registrar,
    signs,
    three,
    uniform,
)  # fmt: skip

W = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def mlp(out: int = 3, after: Callable[[Tensor], Any] | None = None) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, out))
        return body if after is None else Net(lambda net, x: after(net.body(x)), body=body)

    return make


add = registrar("loss", x=normal(4), y=three)


def loss(name: str, function: Callable[..., Tensor], y: Any = three, out: int = 3,
         after: Callable[[Tensor], Any] | None = None, **flags: Any) -> None:  # fmt: skip
    add(f"loss_{name}", mlp(out, after), function, normal(4), y, **flags)


loss("cross_entropy", F.cross_entropy)
loss("cross_entropy_module", nn.CrossEntropyLoss())
loss("cross_entropy_sum", partial(F.cross_entropy, reduction="sum"))
loss("cross_entropy_smoothed", partial(F.cross_entropy, label_smoothing=0.1))
loss("cross_entropy_weighted", partial(F.cross_entropy, weight=W))
loss("cross_entropy_weighted_smoothed", partial(F.cross_entropy, weight=W, label_smoothing=0.2))
loss("cross_entropy_ignoring", partial(F.cross_entropy, ignore_index=1),
     y=lambda g, n: torch.randperm(n, generator=g) % 3)  # fmt: skip
loss("cross_entropy_ignoring_minus_100", F.cross_entropy,
     y=lambda g, n: torch.where(torch.arange(n) == 1, -100, three(g, n)))  # fmt: skip
loss("cross_entropy_soft", F.cross_entropy, distributions(3))
loss("cross_entropy_by_mean", lambda p, y: F.cross_entropy(p, y, reduction="none").mean())
loss("cross_entropy_images", F.cross_entropy, integers(3, 2, 2), 12,
     lambda p: p.view(-1, 3, 2, 2))  # fmt: skip
loss("nll", lambda p, y: F.nll_loss(p.log_softmax(-1), y))
loss("nll_weighted_sum", lambda p, y: F.nll_loss(p.log_softmax(-1), y, weight=W, reduction="sum"))
loss("bce", lambda p, y: F.binary_cross_entropy(p.sigmoid(), y), uniform(3))
loss("bce_logits", F.binary_cross_entropy_with_logits, uniform(3))
loss("bce_logits_positive_weight", partial(F.binary_cross_entropy_with_logits, pos_weight=W),
     uniform(3))  # fmt: skip
loss("bce_logits_weight", partial(F.binary_cross_entropy_with_logits, weight=W), uniform(3))
REAL = normal(3)
loss("mse", F.mse_loss, REAL)
loss("mse_sum", partial(F.mse_loss, reduction="sum"), REAL, alpha=0.01)
loss("mse_halved", lambda p, y: 0.5 * (p - y).pow(2).sum(-1).mean(), REAL)
loss("mse_unreduced_then_max", lambda p, y: (p - y).square().amax(), REAL)
loss("l1", F.l1_loss, REAL)
loss("smooth_l1", partial(F.smooth_l1_loss, beta=0.7), REAL)
loss("huber", partial(F.huber_loss, delta=0.4), REAL)
loss("kl_div", lambda p, y: F.kl_div(p.log_softmax(-1), y, reduction="batchmean"),
     distributions(3))  # fmt: skip
loss("kl_div_log_target", lambda p, y: F.kl_div(p.log_softmax(-1), y.log(), log_target=True,
     reduction="sum"), distributions(3))  # fmt: skip
loss("poisson_nll", F.poisson_nll_loss, uniform(3, high=4))
loss("poisson_nll_full", lambda p, y: F.poisson_nll_loss(F.softplus(p), y, log_input=False,
     full=True), uniform(3, high=4))  # fmt: skip
loss("gaussian_nll", lambda p, y: F.gaussian_nll_loss(p[0], y, p[1]), REAL, 6,
     lambda p: (p[:, :3], F.softplus(p[:, 3:]) + 0.2))  # fmt: skip
loss("gaussian_nll_full", lambda p, y: F.gaussian_nll_loss(p[:, :3], y, p[:, 3:].exp(), full=True),
     REAL, 6)  # fmt: skip
loss("hinge_embedding", lambda p, y: F.hinge_embedding_loss(p.square(), y), signs(3))
loss("margin_ranking", lambda p, y: F.margin_ranking_loss(p[:, 0], p[:, 1], y, 0.3), signs())


def margins(p: Tensor, y: Tensor, power: int = 1, margin: float = 1.0,
            weight: Tensor | None = None) -> Tensor:  # fmt: skip
    """multi_margin_loss from operations that torch derives twice."""
    each = (margin - p.gather(1, y[:, None]) + p).relu().pow(power)
    if weight is not None:
        each = each * weight[y][:, None]
    return (each.sum(1) - each.gather(1, y[:, None])[:, 0]).mean() / p.shape[1]


def label_margins(p: Tensor, y: Tensor) -> Tensor:
    """multilabel_margin_loss with one label each."""
    return margins(p, y[:, 0])


def ctc(p: Tensor, y: Tensor) -> Tensor:
    """ctc_loss by the forward recursion, [T, N, C] and targets without repeats or blanks."""
    losses = []
    for n in range(p.shape[1]):
        labels = [0, int(y[n, 0]), 0, int(y[n, 1]), 0]
        skips = [s == 3 and labels[3] != labels[1] for s in range(5)]
        low = torch.full((), -1e30, dtype=p.dtype)
        alpha = [p[0, n, labels[s]] if s < 2 else low for s in range(5)]
        for t in range(1, len(p)):
            alpha = [
                p[t, n, labels[s]]
                + torch.stack(
                    [alpha[s], alpha[s - 1] if s else low, alpha[s - 2] if skips[s] else low]
                ).logsumexp(0)
                for s in range(5)
            ]
        losses.append(-torch.logaddexp(alpha[4], alpha[3]) / 2)
    return torch.stack(losses).mean()


loss("multi_margin", F.multi_margin_loss, twin_loss=margins, may_refuse=True)
loss("multi_margin_squared", partial(F.multi_margin_loss, p=2, margin=0.7, weight=W),
     twin_loss=partial(margins, power=2, margin=0.7, weight=W), may_refuse=True)  # fmt: skip
loss("multilabel_margin", F.multilabel_margin_loss, twin_loss=label_margins, may_refuse=True,
     y=lambda g, n: torch.stack([torch.randint(0, 3, (n,), generator=g), torch.full((n,), -1),
                                 torch.full((n,), -1)], 1))  # fmt: skip
loss("soft_margin", F.soft_margin_loss, signs(3))
loss("multilabel_soft_margin", partial(F.multilabel_soft_margin_loss, weight=W), uniform(3))
loss(
    "triplet", lambda p, y: F.triplet_margin_loss(p[:, :3], p[:, 3:6], p[:, 6:], margin=2.0), out=9
)
loss("triplet_swapped", lambda p, y: F.triplet_margin_loss(p[:, :3], p[:, 3:6], p[:, 6:],
     margin=2.0, swap=True), out=9)  # fmt: skip
loss("triplet_own_distance", lambda p, y: F.triplet_margin_with_distance_loss(
    p[:, :3], p[:, 3:6], p[:, 6:], distance_function=lambda a, b: (a - b).abs().sum(-1),
    margin=2.0), out=9)  # fmt: skip
loss("cosine_embedding", lambda p, y: F.cosine_embedding_loss(p[:, :3], p[:, 3:], y, 0.1), signs(),
     6)  # fmt: skip
add("loss_ctc", lambda: Net(lambda net, x: net.body(x).log_softmax(-1).transpose(0, 1),
    body=nn.Linear(3, 4)), lambda p, y: F.ctc_loss(
        p, y, torch.full((p.shape[1],), 6), torch.full((p.shape[1],), 2)),
    normal(6, 3), integers(4, 2, low=1), twin_loss=ctc, may_refuse=True)  # fmt: skip
