"""Named parameters <-> flat vectors [..., d]."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from binomctl.errors import ConfigError

OUTER = "outer_"
"""What the names of parameters begin with that only the outer loop learns, and that a network's
forward may leave unused."""


def undotted(name: str) -> str:
    """A parameter's name as a part of another's, which must have no dot."""
    return name.replace(".", "__")


@dataclass(frozen=True)
class Layout:
    """Where each named parameter lies in a flat vector of length d.

    The order is that of `model.named_parameters()`; a parameter shared under two names appears
    once, as it does there. Frozen parameters (requires_grad False) are constants and not in it. A
    complex parameter is kept as its real and imaginary parts, one more axis of 2 in its shape.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    complexes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: nn.Module) -> Layout:
        """The layout of a model's trainable parameters."""
        return cls.of_tensors(dict(trainable(model)))

    @classmethod
    def of_tensors(cls, named: Mapping[str, Tensor]) -> Layout:
        """The layout of tensors by name."""
        parts = (torch.view_as_real(p) if p.is_complex() else p for p in named.values())
        complexes = frozenset(name for name, p in named.items() if p.is_complex())
        return cls(tuple(named), tuple(p.shape for p in parts), complexes)

    @property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    @property
    def d(self) -> int:
        """Number of parameters."""
        return sum(self.sizes)

    def shape(self, name: str) -> torch.Size:
        """The shape of one parameter."""
        return self.shapes[self.names.index(name)]

    def last_module(self) -> tuple[str, ...]:
        """The parameters of the module that was registered last: a head, where nobody knows."""
        module = self.names[-1].rpartition(".")[0]
        return tuple(n for n in self.names if n.rpartition(".")[0] == module)

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """The parameters whose names match any of the patterns (*, ?, [abc]).

        Raises:
            ConfigError: a pattern matches no parameter.
        """
        for pattern in patterns:
            if not self.named_like([pattern]):
                raise ConfigError(
                    f"the pattern '{pattern}' matches no parameter of the model",
                    f"Its parameters are {', '.join(self.names)}.",
                )
        return self.named_like(patterns)

    def others(self, patterns: Sequence[str]) -> list[str]:
        """The parameters that are left to adapt where those matching the patterns stay.

        Raises:
            ConfigError: a pattern matches no parameter, or together they match all.
        """
        stay = set(self.matching(patterns))
        left = [name for name in self.names if name not in stay]
        if not left:
            raise ConfigError(
                f"nothing is left to adapt: {', '.join(patterns)} are all parameters of the model",
                "Let fewer stay, or take a model with more layers.",
            )
        return left

    def named_like(self, patterns: Sequence[str]) -> list[str]:
        """As `matching`, but [] where nothing matches."""
        return [n for n in self.names if any(fnmatch.fnmatchcase(n, p) for p in patterns)]

    def mask(self, patterns: Sequence[str], like: Tensor) -> Tensor:
        """1 where a parameter's name matches, 0 elsewhere: [d], of like's dtype and device."""
        return _mask(self, tuple(patterns), like.dtype, like.device)

    def flatten(self, named: Mapping[str, Tensor], out: Tensor | None = None) -> Tensor:
        """Concatenate tensors [*batch, *shape] by name into one [*batch, d], `out` if given."""
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            part = named[name]
            if name in self.complexes:
                part = torch.view_as_real(part.resolve_conj())
            if len(shape) != 1:  # vectors are flat already
                batch = part.shape[: part.dim() - len(shape)]
                part = part.reshape(*batch, math.prod(shape))
            parts.append(part)
        return torch.cat(parts, dim=-1) if out is None else torch.cat(parts, dim=-1, out=out)

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of a vector [*batch, d] as tensors [*batch, *shape] by name."""
        batch = vector.shape[:-1]
        parts = torch.split(vector, self.sizes, dim=-1)
        named = {
            name: part.reshape((*batch, *shape))
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }
        for name in self.complexes:
            named[name] = torch.view_as_complex(named[name].contiguous())
        return named


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """A model's parameters that are not frozen, by name, each once."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def initial_parameters(model: nn.Module) -> Tensor:
    """A model's current parameters as one detached vector theta [d]."""
    return Layout.of(model).flatten({n: p.detach() for n, p in trainable(model)})


@lru_cache(maxsize=16)
def _mask(
    layout: Layout, patterns: tuple[str, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    chosen = set(layout.matching(patterns))
    parts = [
        torch.full((math.prod(shape),), float(name in chosen), dtype=dtype, device=device)
        for name, shape in zip(layout.names, layout.shapes, strict=True)
    ]
    return torch.cat(parts)
