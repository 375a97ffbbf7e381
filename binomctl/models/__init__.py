"""Networks: a frozen dataclass of options each, with `build(in_shape, out_dim) -> nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from binomctl.errors import ConfigError, unknown
from binomctl.models.conv4 import Conv4
from binomctl.models.mlp import MLP
from binomctl.options import build

MODELS: dict[str, type[MLP] | type[Conv4]] = {"mlp": MLP, "conv4": Conv4}


def build_model(
    name: str, options: Mapping[str, Any], in_shape: tuple[int, ...], out_dim: int, seed: int
) -> nn.Module:
    """A network with weights drawn from the seed; the global random state is left alone.

    Raises:
        ConfigError: an unknown name or option, or a shape the network cannot take.
    """
    if name not in MODELS:
        raise ConfigError(unknown("model", name, MODELS), key="model.name")
    spec = build(MODELS[name], options, f"model '{name}'", key="model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.build(in_shape, out_dim)
