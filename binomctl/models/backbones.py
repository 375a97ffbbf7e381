"""Networks of timm and torchvision by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from binomctl.errors import ConfigError, MissingDependencyError
from binomctl.models.shapes import check_image
from binomctl.options import option

NORM = option(
    "batch",
    "batch norm: the statistics of the batch at hand, or frozen: its running averages, as"
    " pretrained weights want them",
)


@dataclass(frozen=True)
class Timm:
    """A network of timm (`pip install timm`), in eval mode: no dropout, no stochastic depth."""

    timm: str = option("resnet18", "its name, as timm.create_model takes it")
    pretrained: bool = option(False, "timm's own weights, which it fetches; a file's: --init FILE")
    norm: Literal["batch", "frozen"] = NORM

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Module:
        """The module, images [N, channels, height, width] -> logits [N, out_dim].

        Raises:
            ConfigError: no such network, or inputs that are no images.
        """
        timm = _package("timm")
        channels = check_image("timm", in_shape, least=1)
        _check_name(self.timm, timm.list_models(), "timm")
        arguments = timm_arguments(self.timm, (channels, *in_shape[1:]), out_dim)
        return _made(
            lambda: timm.create_model(self.timm, pretrained=self.pretrained, **arguments),
            self.timm, self.norm,
        )  # fmt: skip


@dataclass(frozen=True)
class Torchvision:
    """A classification network of torchvision, in eval mode: no dropout."""

    torchvision: str = option("resnet18", "its name, as torchvision.models.get_model takes it")
    norm: Literal["batch", "frozen"] = NORM

    def build(self, in_shape: tuple[int, ...], out_dim: int) -> nn.Module:
        """The module, images [N, 3, height, width] -> logits [N, out_dim].

        Raises:
            ConfigError: no such network, or inputs that are no colour images.
        """
        models = _package("torchvision.models")
        if check_image("torchvision", in_shape, least=1) != 3:
            raise ConfigError(
                "torchvision's networks take colour images",
                "Use colour images, or model.timm, which takes any channels.",
                key="model.name",
            )
        _check_name(self.torchvision, models.list_models(module=models), "torchvision")
        return _made(
            lambda: models.get_model(self.torchvision, weights=None, num_classes=out_dim),
            self.torchvision, self.norm,
        )  # fmt: skip


def with_norm(network: nn.Module, norm: Literal["batch", "frozen"]) -> nn.Module:
    """A network in eval mode whose batch norm takes the batch's statistics, or running averages."""
    for layer in network.modules():
        if norm == "batch" and isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return network.eval()


def _made(make: Any, name: str, norm: Literal["batch", "frozen"]) -> nn.Module:
    try:
        network = make()
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{name} cannot be made: {type(error).__name__}: {reason}", key="model.name"
        ) from error
    return with_norm(network, norm)


def timm_arguments(name: str, in_shape: tuple[int, ...], out_dim: int) -> dict[str, Any]:
    """What timm.create_model is told for images [channels, height, width] and so many outputs."""
    arguments: dict[str, Any] = {"num_classes": out_dim, "in_chans": in_shape[0]}
    if _takes_size(_package("timm"), name):
        arguments["img_size"] = tuple(in_shape[1:])
    return arguments


def _takes_size(timm: Any, name: str) -> bool:
    """Whether a network is made for one size of images, as transformers are."""
    import inspect

    try:
        configuration = timm.get_pretrained_cfg(name)
    except RuntimeError:
        return False
    made = timm.models.model_entrypoint(name)
    fixed = bool(getattr(configuration, "fixed_input_size", False))
    return fixed and "kwargs" in inspect.signature(made).parameters


def _check_name(name: str, known: Sequence[str], package: str) -> None:
    """Refuse a name that a package has not; hundreds are valid: the nearest few are named."""
    import difflib

    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(
        f"{package} has no network '{name}'.{guess}",
        f"It has {len(known)}: python -c 'import {package}; print({_LISTING[package]})'.",
        key=f"model.{package}",
    )


_LISTING = {"timm": "timm.list_models()", "torchvision": "torchvision.models.list_models()"}


def _package(name: str) -> Any:
    from importlib import import_module

    root = name.partition(".")[0]
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"model.name = {root} needs {root}: {error}", f"pip install {root}"
        ) from error
