"""LEO: a latent code adapts, then the weights it decodes to (Rusu et al. 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.contracts import Forward
from binomctl.errors import ConfigError
from binomctl.flat import Layout
from binomctl.options import option, plugin
from binomctl.ranges import check_count


@plugin
@dataclass(frozen=True)
class LEO:
    """Latent embedding optimisation (Rusu et al. 2019, section 2.3).

    A task's code z_c starts at a draw from N(mean_c, std_c^2), which an encoder and a relation
    network make of all pairs of support features, equations (2) and (3). For `latent_steps` the
    code adapts through the decoder; the steps that follow move the decoded weights themselves. Both
    step sizes are meta-learned, relative to alpha. The outer loss gains the penalties of equation
    (6). At test the means are taken. The network is model.name=latent, or one with its parameters.
    """

    latent_steps: int = option(5, "inner steps in the latent space; the rest are of the weights")
    hidden: int = option(64, "units of the encoder and, twice as many, of the relation network")
    latent_rate: float = option(1.0, "step size of the code, times alpha, before meta-training")
    weights_rate: float = option(0.001, "that of the weights")
    spread: float = option(0.1, "standard deviation of the code before meta-training")
    kl: float = option(0.001, "beta: weight of KL(N(mean, std^2), N(0, 1)) of the code")
    encoder: float = option(1e-9, "gamma: weight of |z_K - z_0|^2, z_K a constant")
    orthogonality: float = option(0.1, "lambda_2: weight of the decoder's rows' correlations")

    def __post_init__(self) -> None:
        check_count("hidden", self.hidden, "rule.hidden")
        check_count("latent_steps", self.latent_steps, "rule.latent_steps")

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        """Encoder and relation network, random, and the two step sizes."""
        random = torch.Generator().manual_seed(0)
        parts = []
        for shape in self._shapes(layout):
            bound = 1 / math.sqrt(shape[-1])
            parts.append(torch.rand(shape.numel(), generator=random) * 2 * bound - bound)
        return torch.cat([*parts, torch.tensor([self.latent_rate, self.weights_rate])])

    def noise(self, layout: Layout, random: torch.Generator, training: bool) -> Tensor:
        """That of the code and of the decoded weights; zero at test."""
        names = _names(layout)
        n = sum(layout.shape(names[part]).numel() for part in ("z", "noise"))
        drawn = torch.randn(n, generator=random, dtype=torch.float64)
        return drawn if training else torch.zeros_like(drawn)

    def with_noise(self, noise: Tensor) -> _OfTask:
        return _OfTask(self, noise)

    def start(
        self, m: Tensor, theta: Tensor, x: Any, y: Tensor, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d] of a task that draws nothing: the code is its mean."""
        return self._still(layout, theta).start(m, theta, x, y, layout, network)

    def penalty(
        self,
        m: Tensor,
        theta: Tensor,
        phi: Tensor,
        x: Any,
        y: Tensor,
        layout: Layout,
        network: Forward,
    ) -> Tensor:
        """Of a task that draws nothing."""
        return self._still(layout, theta).penalty(m, theta, phi, x, y, layout, network)

    def _still(self, layout: Layout, like: Tensor) -> _OfTask:
        zeros = self.noise(layout, torch.Generator(), training=False)
        return self.with_noise(zeros.to(like))

    def _shapes(self, layout: Layout) -> list[torch.Size]:
        """Of the encoder's weight and the relation network's three."""
        names, h = _names(layout), self.hidden
        features, latent = layout.shape(names["offset"])[1], layout.shape(names["z"])[1]
        shapes = ((h, features), (2 * h, 2 * h), (2 * h, 2 * h), (2 * latent, 2 * h))
        return [torch.Size(shape) for shape in shapes]


@dataclass(frozen=True)
class _OfTask:
    """The rule of one task."""

    of: LEO
    drawn: Tensor
    plain = False

    def initial(self, layout: Layout) -> Tensor:
        return self.of.initial(layout)

    def direction(self, k: int, m: Tensor, phi: Tensor, gamma: Tensor, layout: Layout) -> Tensor:
        names, latent = _names(layout), k < self.of.latent_steps
        moves = layout.mask((names["z" if latent else "offset"],), gamma)
        return m[-2 if latent else -1] * moves * gamma

    def start(
        self, m: Tensor, theta: Tensor, x: Any, y: Tensor, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d]: theta with the task's code, its noise, and an offset of zeros."""
        names, named = _names(layout), layout.unflatten(theta)
        mean, std = self._code(m, theta, x, y, layout, network)
        begun = {
            names["z"]: self._drawn_code(mean, std),
            names["noise"]: self.drawn[mean.numel() :].view_as(named[names["noise"]]),
            names["offset"]: torch.zeros_like(named[names["offset"]]),
        }
        return layout.flatten({**named, **begun})

    def penalty(
        self,
        m: Tensor,
        theta: Tensor,
        phi: Tensor,
        x: Any,
        y: Tensor,
        layout: Layout,
        network: Forward,
    ) -> Tensor:
        """beta KL + gamma |z_K - z_0|^2 + lambda_2 |C - I|^2, equations (6) and (7)."""
        names, named = _names(layout), layout.unflatten(theta)
        mean, std = self._code(m, theta, x, y, layout, network)
        kl = 0.5 * (std**2 + mean**2 - 1 - 2 * std.log()).sum()
        away = ((layout.unflatten(phi)[names["z"]] - self._drawn_code(mean, std)) ** 2).sum()
        rows = F.normalize(named[names["decoder"]].T, dim=1)
        products = rows @ rows.T - torch.eye(len(rows)).to(rows)
        of = self.of
        return of.kl * kl + of.encoder * away + of.orthogonality * (products**2).mean()

    def _drawn_code(self, mean: Tensor, std: Tensor) -> Tensor:
        """z_0 [classes, latent] by the task's draw, whose first numbers are the code's."""
        return mean + std * self.drawn[: mean.numel()].view_as(std)

    def _code(
        self, m: Tensor, theta: Tensor, x: Any, y: Tensor, layout: Layout, network: Forward
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every class's code, [classes, latent]."""
        names, shapes = _names(layout), self.of._shapes(layout)
        flat = torch.split(m[:-2], [s.numel() for s in shapes])
        encode, *relate = [w.view(s) for w, s in zip(flat, shapes, strict=True)]
        head = names["z"].rpartition(".")[0]
        features = network.entering(head, theta, x).flatten(1)
        h = F.linear(features, encode)
        N, classes = len(h), layout.shape(names["z"])[0]
        pairs = torch.cat([h[:, None].expand(-1, N, -1), h[None].expand(N, -1, -1)], 2)
        for weight in relate[:-1]:
            pairs = torch.relu(F.linear(pairs, weight))
        of_example = F.linear(pairs, relate[-1]).mean(1)  # over all that it is compared with
        members = F.one_hot(y, classes).to(of_example)
        of_class = members.T @ of_example / members.sum(0).clamp(min=1).unsqueeze(1)
        mean, log = of_class.chunk(2, 1)
        return mean, self.of.spread * log.exp()


def _names(layout: Layout) -> dict[str, str]:
    """The parameters of a decoded classifier: z, noise, offset, decoder."""
    found = {name.rpartition(".")[0] for name in layout.names if name.rpartition(".")[2] == "z"}
    for head in found:
        prefix = f"{head}." if head else ""
        names = {part: f"{prefix}{part}" for part in ("z", "noise", "offset")}
        names["decoder"] = f"{prefix}decoder.weight"
        if set(names.values()) <= set(layout.names):
            return names
    raise ConfigError(
        "leo adapts a latent code that its classifier is decoded from: z, noise, offset and"
        f" decoder.weight of one module; the network has {', '.join(layout.names)}",
        "Set model.name=latent (body=conv4 for images).",
        key="model.name",
    )
