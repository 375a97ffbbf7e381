"""The outer loop's optimiser, learning rate and clipping."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from binomctl.settings.config import TrainingSection


def build_optimizer(training: TrainingSection, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """Adam or plain SGD over theta and the rule's own meta-parameters."""
    kind = Adam if training.optimizer == "adam" else SGD
    return kind([p for p in parameters if p.numel()], lr=training.meta_lr)


def _plain(method: Any) -> Any:
    """A method of torch's optimisers without its wrappers, which import torch's compiler: 2 to 3
    seconds at the start of every run, for a step that is never compiled."""
    return inspect.unwrap(method)


class _Uncompiled(torch.optim.Optimizer):
    add_param_group = _plain(torch.optim.Optimizer.add_param_group)
    state_dict = _plain(torch.optim.Optimizer.state_dict)
    load_state_dict = _plain(torch.optim.Optimizer.load_state_dict)


class Adam(_Uncompiled, torch.optim.Adam):
    """torch's, without its compiler."""

    step = torch.no_grad()(_plain(torch.optim.Adam.step))


class SGD(_Uncompiled, torch.optim.SGD):
    """torch's, without its compiler."""

    step = torch.no_grad()(_plain(torch.optim.SGD.step))


def learning_rate(training: TrainingSection, step: int) -> float:
    """The outer learning rate of a step, counted from 0; 0 would be reached after the last."""
    left = 1 - step / training.steps
    factor = {
        "constant": 1.0,
        "linear": left,
        "cosine": 0.5 * (1 - math.cos(math.pi * left)),
    }[training.schedule]
    return training.meta_lr * factor


def clip(training: TrainingSection, gradients: list[Tensor]) -> list[Tensor]:
    """Clip every entry, then the common norm, as far as the configuration says so."""
    if training.clip_value is not None:
        gradients = [g.clamp(-training.clip_value, training.clip_value) for g in gradients]
    if training.clip_norm is not None:
        norm = torch.linalg.vector_norm(torch.cat(gradients))
        factor = (training.clip_norm / norm).clamp(max=1.0)
        gradients = [g * factor for g in gradients]
    return gradients
