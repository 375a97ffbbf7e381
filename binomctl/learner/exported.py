"""A network that is to be written for other programs, with what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from binomctl.settings.config import Config


@dataclass(frozen=True)
class Exported:
    """A network to be written. module: as it is to predict, in the run's type. classes: what its
    outputs stand for; empty where nothing was adapted. averages: batch norm reads running ones.
    about: what the card says, by heading."""

    module: nn.Module
    config: Config
    in_shape: tuple[int, ...]
    out_dim: int
    classes: tuple[Any, ...]
    averages: bool
    about: dict[str, Any]
