"""What an image network can take."""

from __future__ import annotations

from binomctl.errors import ConfigError


def check_image(name: str, in_shape: tuple[int, ...], least: int) -> int:
    """The number of channels of images [channels, height, width].

    Raises:
        ConfigError: not an image, or smaller than `least` pixels.
    """
    if len(in_shape) != 3:
        raise ConfigError(
            f"{name} needs images [channels, height, width], not {list(in_shape)}",
            "Use model.name=mlp for vectors.",
            key="model.name",
        )
    channels, height, width = in_shape
    if min(height, width) < least:
        raise ConfigError(
            f"images of {height}x{width} are too small for {name}",
            f"Use images of at least {least}x{least}.",
            key="model.name",
        )
    return channels
