"""The start of a sinusoidal network that is fitted to one picture in a few steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.contracts import Dataset
from binomctl.episodes import Episode, Metric
from binomctl.errors import ConfigError
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class Siren:
    """Pictures as functions of the place: each is a task, fitted in K steps (Tancik et al. 2021).

    Inputs are places [-1, 1]^2, targets grey values in [0, 1], support and query all pixels, the
    metric the peak signal-to-noise ratio. The network is a SIREN (Sitzmann et al. 2020), whose
    start is learned.
    """

    data: Any = option("glyphs", "the data set of the pictures, or {name: ..., option: ...}")

    composed_of: ClassVar[str] = "data"
    in_shape: ClassVar[tuple[int, ...]] = (2,)
    kind: ClassVar[Literal["regression"]] = "regression"
    scored_by: ClassVar[Metric] = Metric("psnr", "number", True)
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "model": {"name": "siren"},
            "adaptation": {"K": 3, "alpha": 0.01},
            "training": {"meta_batch": 4, "meta_lr": 1e-4, "steps": 500, "validate_every": 100},
        }
    )

    def __post_init__(self) -> None:
        shape = getattr(self.data, "in_shape", ())
        if len(shape) != 3:
            raise ConfigError(
                f"data = {self.data!r} has no pictures",
                "Write --set dataset.data=NAME, or {name: ..., image_size: 28}.",
                key="dataset.data",
            )

    def members(self) -> tuple[Dataset, ...]:
        """The data set that pictures come from."""
        return (self.data,)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.data.splits)

    @property
    def out_dim(self) -> int:
        """Channels."""
        return int(self.data.in_shape[0])

    def episode(self, split: str, index: int) -> Episode:
        """The first picture of the data set's episode of this number."""
        picture = self.data.episode(split, index).x_trn[0]
        if picture.dtype == torch.uint8:
            picture = picture.float() / 255
        _, H, W = picture.shape
        rows, columns = (torch.linspace(-1, 1, n) for n in (H, W))
        places = torch.cartesian_prod(rows, columns)
        values = picture.flatten(1).T
        return Episode(places, values, places, values)

    loss = staticmethod(F.mse_loss)

    def metric(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Peak signal-to-noise ratio in dB, of values in [0, 1]: -10 log10 of the squared error."""
        return -10 * torch.log10(F.mse_loss(prediction, y))
