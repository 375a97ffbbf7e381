"""What tasks draw for a rule that draws."""

from __future__ import annotations

from dataclasses import replace

import torch

from binomctl.contracts import Adaptation, Draws
from binomctl.contracts.abilities import has
from binomctl.episodes import TaskNumbers


def with_noise(how: Adaptation, numbers: TaskNumbers | None) -> Adaptation:
    """The inner loop of tasks with these numbers; the same where the rule draws nothing, or where
    nobody said which tasks they are."""
    rule = how.rule
    if not has(rule, Draws) or numbers is None:
        return how
    drawn = [
        rule.noise(how.layout, random, numbers.training) for random in numbers.generators("noise")
    ]
    return replace(how, noise=torch.stack(drawn).to(how.m))
