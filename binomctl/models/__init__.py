"""Networks: a frozen dataclass of options each, with `build(in_shape, out_dim) -> nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from binomctl.errors import ConfigError, unknown
from binomctl.models.backbones import Timm, Torchvision
from binomctl.models.conv4 import Conv4
from binomctl.models.imported import build_imported
from binomctl.models.latent import Latent
from binomctl.models.mlp import MLP
from binomctl.models.resnet12 import ResNet12
from binomctl.models.siren import SIREN
from binomctl.models.wrn28 import WRN28
from binomctl.options import IMPORT, build

MODELS: dict[str, type[MLP | Conv4 | ResNet12 | WRN28 | Latent | SIREN | Timm | Torchvision]] = {
    "mlp": MLP,
    "conv4": Conv4,
    "resnet12": ResNet12,
    "wrn28": WRN28,
    "latent": Latent,
    "siren": SIREN,
    "timm": Timm,
    "torchvision": Torchvision,
}


def build_model(
    name: str, options: Mapping[str, Any], in_shape: tuple[int, ...], out_dim: int, seed: int
) -> nn.Module:
    """A network with weights drawn from the seed; the global random state is left alone.

    Raises:
        ConfigError: an unknown name or option, or a shape the network cannot take.
    """
    if name not in (*MODELS, IMPORT):
        hint = "'binomctl config keys model --model NAME' lists what one has."
        if ":" in name:
            hint = f"For a network of your own: --set model.import={name}."
        raise ConfigError(unknown("model", name, MODELS), hint, key="model.name")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == IMPORT:
            own = {k: v for k, v in options.items() if k != IMPORT}
            return build_imported(str(options.get(IMPORT, "")), own, in_shape, out_dim)
        return build(MODELS[name], options, f"model '{name}'", key="model").build(in_shape, out_dim)
