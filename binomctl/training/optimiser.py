"""The outer loop's optimiser, learning rate and clipping."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from binomctl.settings.config import TrainingSection


def build_optimizer(training: TrainingSection, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """Adam or plain SGD over theta and the rule's own meta-parameters."""
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.SGD
    return kind([p for p in parameters if p.numel()], lr=training.meta_lr)


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
