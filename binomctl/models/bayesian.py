"""A network whose weights have a mean and a standard deviation each."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from binomctl.flat import OUTER, undotted
from binomctl.ranges import check_count, check_positive


class Bayesian(nn.Module):
    """Log-probabilities averaged over draws of the weights, w = mean + exp(log_std) noise.

    mean, log_std and noise have the network's parameters' names under theirs; the prior's are
    outer_mean_NAME and outer_log_std_NAME, dots in NAME written as two underscores. A rule gives a
    task its noise and starts it at the prior (iBaML, Zhang et al. 2023).
    """

    def __init__(self, network: nn.Module, samples: int, std: float) -> None:
        super().__init__()
        self.samples = samples
        self.mean, self.log_std, self.noise = network, copy.deepcopy(network), nn.Module()
        with torch.no_grad():
            for p in self.log_std.parameters():
                p.fill_(math.log(std))
        for name, p in network.named_parameters():
            flat = undotted(name)
            zeros = torch.zeros(samples, *p.shape)
            self.noise.register_parameter(flat, nn.Parameter(zeros))
            self.register_parameter(f"{OUTER}mean_{flat}", nn.Parameter(p.detach().clone()))
            start = torch.full_like(p, math.log(std))
            self.register_parameter(f"{OUTER}log_std_{flat}", nn.Parameter(start))

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [N, ...] -> the logarithm of the mean over draws of softmax, [N, classes]."""
        logs = []
        for s in range(self.samples):
            weights = {
                name: mean + log_std.exp() * getattr(self.noise, undotted(name))[s]
                for (name, mean), log_std in zip(
                    self.mean.named_parameters(), self.log_std.parameters(), strict=True
                )
            }
            logs.append(functional_call(self.mean, weights, (x,)).log_softmax(-1))
        return torch.logsumexp(torch.stack(logs), 0) - math.log(self.samples)


def bayesian(network: nn.Module, draws: int, std: float) -> nn.Module:
    """The network with a distribution of weights, or as it is where draws = 0.

    Raises:
        ConfigError: draws below 0, or a standard deviation that is not positive.
    """
    if not draws:
        return network
    check_count("bayesian", draws, "model.bayesian")
    check_positive("std", std, "model.std")
    return Bayesian(network, draws, std)
