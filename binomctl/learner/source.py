"""A network of this package as plain PyTorch source, for whoever has its weights alone."""

from __future__ import annotations

import inspect

from torch import nn

HEADER = '''"""{title}"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
'''


def source_of(module: nn.Module, title: str) -> str:
    """A file that defines `network()`, a module with the same names of parameters.

    Args:
        module: of torch's own layers, in containers, and of blocks that keep their `arguments`.
    """
    blocks: dict[str, str] = {}
    made = _expression(module, blocks, "    ")
    parts = [HEADER.format(title=title), *blocks.values()]
    return "\n\n".join(parts) + f"\n\ndef network() -> nn.Module:\n    return {made}\n"


def _expression(module: nn.Module, blocks: dict[str, str], indent: str) -> str:
    """What makes a module; the blocks it is made of are added to `blocks` by name."""
    kind = type(module)
    if kind is nn.Sequential:
        inner = indent + "    "
        lines = [
            f'{inner}("{name}", {_expression(child, blocks, inner)}),'
            for name, child in module.named_children()
        ]
        return "\n".join(["nn.Sequential(OrderedDict([", *lines, f"{indent}]))"])
    if kind.__module__.startswith("torch.nn."):
        return f"nn.{kind.__name__}({_arguments(module)})"
    lines = inspect.getsource(kind).rstrip().splitlines()
    blocks[kind.__name__] = "\n".join(line for line in lines if "self.arguments =" not in line)
    return f"{kind.__name__}{module.arguments!r}"


def _arguments(layer: nn.Module) -> str:
    """What a layer of torch was made with, but for defaults: other versions have other ones."""
    said = []
    for name, parameter in inspect.signature(type(layer)).parameters.items():
        value = getattr(layer, name, parameter.default)
        if name == "bias":
            value = value is not None
        if name in ("device", "dtype") or value == parameter.default:
            continue
        bare = parameter.default is inspect.Parameter.empty
        said.append(f"{value!r}" if bare else f"{name}={value!r}")
    return ", ".join(said)
