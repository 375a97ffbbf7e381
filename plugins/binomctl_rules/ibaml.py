"""iBaML: a distribution of weights adapts, near a learned prior (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from binomctl.contracts import Forward
from binomctl.errors import ConfigError
from binomctl.flat import OUTER, Layout, undotted
from binomctl.options import option, plugin

PARTS = ("mean", "log_std")


@plugin
@dataclass(frozen=True)
class IBaML:
    """A Gaussian for every weight adapts, its divergence from a learned prior added to the loss.

    A task starts at the prior and descends the expected loss, over draws of weights of its own,
    plus kl KL(N(mean, std^2), N(prior)): the free energy of Zhang et al. 2023 (equation 4) where kl
    is one over the number of support examples. The estimator implicit gives the paper's gradient,
    which takes phi^K for the minimum; expansions follow the path instead. The network wants
    model.bayesian=4, or parameters of these names.
    """

    kl: float = option(
        1e-4,
        "weight of the divergence beside the mean loss; an inner step diverges where it exceeds"
        " 2 model.std^2 / adaptation.alpha",
    )

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        _blocks(layout)
        return torch.empty(0)

    def noise(self, layout: Layout, random: torch.Generator, training: bool) -> Tensor:
        """Standard normal, one number for every weight and draw."""
        n = sum(layout.shape(name).numel() for name in _noise(layout))
        return torch.randn(n, generator=random, dtype=torch.float64)

    def with_noise(self, noise: Tensor) -> _OfTask:
        return _OfTask(self, noise)

    def start(
        self, m: Tensor, theta: Tensor, x: Any, y: Any, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d] of a task that draws nothing."""
        zeros = torch.zeros_like(self.noise(layout, torch.Generator(), training=False))
        return self.with_noise(zeros.to(theta)).start(m, theta, x, y, layout, network)


@dataclass(frozen=True)
class _OfTask:
    """The rule of one task."""

    of: IBaML
    drawn: Tensor
    plain = False

    def initial(self, layout: Layout) -> Tensor:
        return self.of.initial(layout)

    def start(
        self, m: Tensor, theta: Tensor, x: Any, y: Any, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d]: the prior, and the task's noise."""
        named = layout.unflatten(theta)
        for part, prior in _blocks(layout).items():
            named[part] = named[prior]
        names = _noise(layout)
        draws = torch.split(self.drawn, [layout.shape(n).numel() for n in names])
        for name, draw in zip(names, draws, strict=True):
            named[name] = draw.view(layout.shape(name))
        return layout.flatten(named)

    def direction(self, k: int, m: Tensor, phi: Tensor, gamma: Tensor, layout: Layout) -> Tensor:
        """u = gamma + kl grad KL at mean and log_std, 0 elsewhere."""
        named, slopes = layout.unflatten(phi), layout.unflatten(gamma)
        out = {name: torch.zeros_like(slope) for name, slope in slopes.items()}
        blocks, weight = _blocks(layout), self.of.kl
        for mean, prior_mean in blocks.items():
            if not mean.startswith("mean."):
                continue
            log_std = f"log_std.{mean.removeprefix('mean.')}"
            a, b = named[log_std], named[blocks[log_std]]
            precision = torch.exp(-2 * b)
            away = named[mean] - named[prior_mean]
            out[mean] = slopes[mean] + weight * away * precision
            out[log_std] = slopes[log_std] + weight * (torch.exp(2 * a) * precision - 1)
        return layout.flatten(out)


def _noise(layout: Layout) -> list[str]:
    return layout.named_like(("noise.*",))


def _blocks(layout: Layout) -> Mapping[str, str]:
    """What adapts, by name, and the parameter of its prior."""
    found = {}
    for name in layout.named_like([f"{part}.*" for part in PARTS]):
        part, _, own = name.partition(".")
        prior = f"{OUTER}{part}_{undotted(own)}"
        if prior in layout.names:
            found[name] = prior
    if not found:
        raise ConfigError(
            "ibaml adapts a mean and a log_std for every weight, and the network has"
            f" {', '.join(layout.names[:6])} ...",
            "Set model.bayesian=4 (mlp, conv4).",
            key="model.bayesian",
        )
    return found
