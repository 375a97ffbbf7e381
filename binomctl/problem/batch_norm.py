"""Batch norm in an inner loop: whose statistics it normalises with.

- batch: those of the batch at hand, at test too (transductive: all queries of a task together).
- per-step: the batch's while meta-training; running averages, one set per inner step, at test
  (MAML++, Antoniou et al. 2019), so that one query's answer does not depend on the others. A
  network trained on batch statistics adapts much worse on averages, through which its inner
  steps are larger: expect to need a smaller alpha.
- frozen: those of the initial network on training tasks, constants from then on.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

MEANING = {
    "batch": "statistics of the batch at hand (transductive)",
    "per-step": "running averages per inner step at test (MAML++)",
    "frozen": "constants, of the initial network",
}
MOMENTUM = 0.1  # of the running averages, torch's own default


def norm_layers(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch-norm layers of a model by path."""
    kind = nn.modules.batchnorm._BatchNorm
    return {path: m for path, m in model.named_modules() if isinstance(m, kind)}


def with_constants(model: nn.Module) -> nn.Module:
    """A copy whose batch norm reads running_mean and running_var and never updates them."""
    out = copy.deepcopy(model)
    for layer in norm_layers(out).values():
        like = next(out.parameters())
        layer.track_running_stats = True
        layer.running_mean = torch.zeros(layer.num_features).to(like)
        layer.running_var = torch.ones(layer.num_features).to(like)
        layer.num_batches_tracked = torch.tensor(0, device=like.device)
    return out.eval()


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of every batch-norm layer's input, for S inner steps.

    mean and variance: by path of the layer, [S, channels]. Steps beyond S - 1 use the last.
    """

    mean: dict[str, Tensor]
    variance: dict[str, Tensor]

    def at(self, k: int | None) -> dict[str, Tensor]:
        """Buffers by name for inner step k; None is the last."""
        out = {}
        for path, mean in self.mean.items():
            row = len(mean) - 1 if k is None else min(k, len(mean) - 1)
            out[f"{path}.running_mean"] = mean[row]
            out[f"{path}.running_var"] = self.variance[path][row]
        return out

    def blend(self, new: Statistics) -> Statistics:
        """The running average one step further: (1 - MOMENTUM) old + MOMENTUM new."""
        return Statistics(
            {p: torch.lerp(v, new.mean[p], MOMENTUM) for p, v in self.mean.items()},
            {p: torch.lerp(v, new.variance[p], MOMENTUM) for p, v in self.variance.items()},
        )

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, for a checkpoint."""
        return {f"{p}.mean": v for p, v in self.mean.items()} | {
            f"{p}.variance": v for p, v in self.variance.items()
        }

    def to(self, like: Tensor) -> Statistics:
        """On the device and in the type of a tensor."""
        return self.of_tensors({name: t.to(like) for name, t in self.tensors().items()})

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> Statistics:
        """The inverse of `tensors`."""
        mean = {n.removesuffix(".mean"): v for n, v in tensors.items() if n.endswith(".mean")}
        return cls(mean, {p: tensors[f"{p}.variance"] for p in mean})


def measure(
    model: nn.Module, steps: Iterable[tuple[list[dict[str, Tensor]], Tensor]]
) -> Statistics:
    """Statistics of a model's batch-norm inputs, averaged over tasks.

    Args:
        model: normalises with the batch at hand.
        steps: for every inner step the parameters of B tasks by name and their inputs [B, ...].
    """
    layers = norm_layers(model)
    rows: dict[str, list[tuple[Tensor, Tensor]]] = {path: [] for path in layers}

    def hook(path: str, x: Tensor) -> None:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        rows[path].append((x.mean(axes), x.var(axes)))

    handles = [
        layer.register_forward_pre_hook(lambda _, args, path=path: hook(path, args[0]))
        for path, layer in layers.items()
    ]
    means: dict[str, list[Tensor]] = {path: [] for path in layers}
    variances: dict[str, list[Tensor]] = {path: [] for path in layers}
    try:
        with torch.no_grad():
            for parameters, x in steps:
                for task, inputs in zip(parameters, x, strict=True):
                    functional_call(model, task, (inputs,))
                for path, found in rows.items():
                    means[path].append(torch.stack([m for m, _ in found]).mean(0))
                    variances[path].append(torch.stack([v for _, v in found]).mean(0))
                    found.clear()
    finally:
        for handle in handles:
            handle.remove()
    return Statistics(
        {p: torch.stack(v) for p, v in means.items()},
        {p: torch.stack(v) for p, v in variances.items()},
    )
