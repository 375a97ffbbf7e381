"""Weights of a file as a network's first ones: its own, a plain state_dict, learn2learn's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from binomctl.errors import ConfigError

WRAPPERS = ("state_dict", "model", "model_state_dict", "params")
"""Keys under which training scripts put a state_dict."""
AVERAGES = ("running_mean", "running_var", "num_batches_tracked")
"""Batch norm's, for which a network on the statistics of the batch has no place."""


def load_weights(model: nn.Module, path: Path, network: str, *, strict: bool = True) -> list[str]:
    """Give a network the weights of a file.

    Args:
        path: a safetensors file, or one of torch.save that holds tensors alone.
        network: its name here, by which learn2learn's names of its layers are known.
        strict: refuse any difference; otherwise what has no counterpart stays as it was drawn.

    Returns:
        The differences, a line each.

    Raises:
        ConfigError: the file cannot be read, fits nothing, or differs.
    """
    given = translated(read_weights(path), model, network)
    own = dict(model.state_dict(keep_vars=True))
    shapes = {n: tuple(t.shape) for n, t in own.items()}
    fits = {n for n, t in given.items() if shapes.get(n) == tuple(t.shape)}
    differences = [
        *(f"{n}: {list(given[n].shape)} in the file, {list(shapes[n])} in the network"
          for n in sorted(given.keys() & own.keys() - fits)),
        *(f"{n}: not in the file" for n in sorted(own.keys() - given.keys())),
        *(f"{n}: not in the network" for n in sorted(given.keys() - own.keys())),
    ]  # fmt: skip
    if differences and (strict or not fits):
        rest = f"; {len(differences) - 5} more" if len(differences) > 5 else ""
        hint = "With --set init_strict=false what does not fit stays as it is drawn."
        raise ConfigError(
            f"{path} does not fit {network}: {'; '.join(differences[:5])}{rest}",
            hint if fits else f"It has {', '.join(sorted(given)[:3])}, ...",
            key="init",
        )
    with torch.no_grad():
        for name in fits:
            own[name].copy_(given[name])
    return differences


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; nothing of it is run.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or "it is not whole"
        if not path.exists():
            why = "there is no such file"
        raise ConfigError(
            f"cannot read {path}: {why}",
            "Give a .safetensors file, a state_dict, or a run folder.",
            key="init",
        ) from error
    except Exception as error:  # torch's reader fails in many ways
        raise ConfigError(
            f"{path} holds no plain tensors by name",
            "Give a .safetensors file or one that torch.save made of a state_dict(); a whole module"
            " is a program, and is not read.",
            key="init",
        ) from error
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ConfigError(
            f"{path} is no state_dict: tensors by name", "Save state_dict().", key="init"
        )
    return dict(found)


def translated(given: Mapping[str, Tensor], model: nn.Module, network: str) -> dict[str, Tensor]:
    """Weights under the network's own names: without what wrappers put before them, learn2learn's
    names (and so those of the paper's authors) by the table, averages left out where the network
    keeps none."""
    out = dict(given)
    own = model.state_dict().keys()
    while out and all(name.startswith("module.") for name in out):
        out = {name.removeprefix("module."): t for name, t in out.items()}
    if not out.keys() & own and network in NAMES:
        known = NAMES[network]
        if any(name.startswith("base.") for name in out):  # the same tensors under a second name
            out = {n: t for n, t in out.items() if not n.startswith("features.")}
        out = {_renamed(name, known): t for name, t in out.items()}
    kept = {n for n in own if n.endswith(AVERAGES)}
    return {n: t for n, t in out.items() if not n.endswith(AVERAGES) or n in kept}


def _renamed(name: str, known: Mapping[str, str]) -> str:
    part, _, last = name.rpartition(".")
    return f"{known[part]}.{last}" if part in known else name


NAMES: dict[str, dict[str, str]] = {
    "conv4": {
        **{f"{base}.{i}.conv": f"conv{i + 1}" for i in range(4) for base in ("features", "base")},
        **{
            f"{base}.{i}.normalize": f"norm{i + 1}"
            for i in range(4) for base in ("features", "base")
        },
        "classifier": "head",
    },
    "resnet12": {
        **{
            f"features.layer{s}.0.{part}{j}": f"stage{s}.{own}.{j - 1}"
            for s in range(1, 5) for j in (1, 2, 3)
            for part, own in (("conv", "convs"), ("bn", "norms"))
        },
        **{f"features.layer{s}.0.downsample.0": f"stage{s}.shortcut" for s in range(1, 5)},
        **{f"features.layer{s}.0.downsample.1": f"stage{s}.shortcut_norm" for s in range(1, 5)},
        "classifier": "head",
    },
    "wrn28": {
        "features.conv1": "stem",
        "features.bn1": "norm",
        **{
            f"features.layer{g}.{i}.{part}{j}": f"group{g}_{i + 1}.{own}{j}"
            for g in (1, 2, 3) for i in range(4) for j in (1, 2)
            for part, own in (("bn", "norm"), ("conv", "conv"))
        },
        **{
            f"features.layer{g}.{i}.shortcut.0": f"group{g}_{i + 1}.shortcut"
            for g in (1, 2, 3) for i in range(4)
        },
        "classifier": "head",
    },
}  # fmt: skip
"""learn2learn's names of layers (CNN4, OmniglotCNN, ResNet12, WRN28) -> those of our networks."""
