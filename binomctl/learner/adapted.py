"""A network after adaptation to one task: it predicts, it is kept, it is a plain module."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from binomctl.problem.batch_norm import Statistics, norm_layers, with_constants
from binomctl.problem.record import Problem
from binomctl.problem.tasks import scaled
from binomctl.settings.config import Config

BLOCK = 256
"""Examples predicted together where one's answer does not depend on the others'."""


@dataclass(frozen=True)
class Adapted:
    """A network after adaptation to one task.

    module: plain torch; images in [0, 1], in [0, 255] where the run has `pixels: raw`. config: of
    the run. in_shape: of one example. classes: what its outputs stand for, in their order; empty
    in regression. out_dim: its outputs. steps: that were taken. averages: batch norm reads running
    averages, so that an answer depends on no other example.
    """

    module: nn.Module
    config: Config
    in_shape: tuple[int, ...]
    classes: tuple[Hashable, ...]
    out_dim: int
    steps: int
    averages: bool

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other examples that are asked for with it."""
        return not self.averages and any(
            layer.running_mean is None or layer.training
            for layer in norm_layers(self.module).values()
        )

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities [M, classes] of examples [M, *in_shape], or values [M, out_dim].

        Under batch norm with the batch's own statistics all M are normalised together.
        """
        like, found = next(self.module.parameters()), []
        for part in torch.split(x, max(1, len(x) if self.transductive else BLOCK)):
            moved = part.to(like.device)
            if moved.is_floating_point():
                moved = moved.to(like.dtype)
            with torch.no_grad():
                output = self.module(scaled(moved, self.config.pixels, like))
            found.append(output.softmax(-1) if self.classes else output)
        return torch.cat(found).cpu()

    def labels(self, x: Tensor) -> list[Hashable]:
        """The likeliest class of every example."""
        return [self.classes[i] for i in self.predict(x).argmax(-1).tolist()]


def module_at(problem: Problem, phi: Tensor, statistics: Statistics | None) -> nn.Module:
    """A plain torch module at parameters phi [d], in the mode that the run computes in."""
    model = problem.model
    out = copy.deepcopy(model) if statistics is None else with_constants(model)
    values = problem.engine.layout.unflatten(phi)
    if statistics is not None:
        values |= statistics.at(None)
    with torch.no_grad():
        for name, tensor in [*out.named_parameters(), *out.named_buffers()]:
            if name in values:
                tensor.copy_(values[name])
    return out
