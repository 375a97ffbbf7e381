"""A network as a list of layers, and the four maps through all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from binomctl.curvature.analytic.layers import Cache, Layer, Parameters, add


@dataclass(frozen=True)
class Node:
    """One layer: which values it takes (0 is the input, i + 1 the output of node i), and where its
    parameters come from: a name in the flat vector, or a constant of the module's."""

    layer: Layer
    inputs: tuple[int, ...]
    names: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)
    path: str = ""


@dataclass
class Point:
    """A linearisation: what forward and backward left behind at one set of parameters."""

    own: list[Parameters]
    """Every node's own parameters."""
    caches: list[Cache]
    cotangents: list[Tensor | None]


def join(parts: Sequence[Any]) -> Any:
    """Points one after another along the leading axis: tensors, and whatever holds tensors."""
    first = parts[0]
    if isinstance(first, torch.Size) or first is None or isinstance(first, int | float | str):
        return first
    if isinstance(first, Tensor):
        return first if first.dim() == 0 else torch.cat(list(parts))
    if isinstance(first, dict):
        return {key: join([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(join(column) for column in zip(*parts, strict=True))
    names = [f.name for f in fields(first)]
    return type(first)(**{n: join([getattr(part, n) for part in parts]) for n in names})


@dataclass(frozen=True)
class Program:
    """Nodes in an order in which every one comes after its inputs; the last is the output."""

    nodes: tuple[Node, ...]

    _depends: list[bool] = field(init=False, repr=False)
    """Which values depend on a parameter: only their gradients are of use."""
    _finished: list[list[int]] = field(init=False, repr=False)
    """The values that no node needs after node i, by i."""

    def __post_init__(self) -> None:
        depends, last = [False], dict[int, int]()
        for i, node in enumerate(self.nodes):
            depends.append(bool(node.names) or any(depends[j] for j in node.inputs))
            last |= dict.fromkeys(node.inputs, i)
        finished = [[j for j, i in last.items() if i == at] for at in range(len(self.nodes))]
        # Plain attributes: a cached property takes a lock, on which torch.compile breaks its graph.
        object.__setattr__(self, "_depends", depends)
        object.__setattr__(self, "_finished", finished)

    def forward(self, parameters: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Point]:
        """Outputs [T, N, F] for parameters by name, each [T, ...], and x [T, N, ...]."""
        own = [self._own(node, parameters) for node in self.nodes]
        point = Point(own, [Cache() for _ in self.nodes], [None] * len(self.nodes))
        values: dict[int, Tensor] = {0: x}
        for i, (node, cache) in enumerate(zip(self.nodes, point.caches, strict=True)):
            inputs = [values[j] for j in node.inputs]
            values[i + 1] = node.layer.forward(own[i], inputs, cache)
            del inputs
            for j in self._finished[i]:  # a layer that needs it later has it in its cache
                del values[j]
        return values[len(self.nodes)], point

    def backward(self, point: Point, go: Tensor, *, keep: bool) -> dict[str, Tensor]:
        """Gradients by name, each [T, ...], for the output's gradient go.

        keep: products with the Hessian will be asked for; otherwise the caches are emptied on the
        way.
        """
        return self._back(point, go, keep=keep)

    def product(
        self, point: Point, directions: dict[str, Tensor], loss_product: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """H v by name: v by name, each [T, ...]; a parameter without an entry does not vary.

        loss_product: the map from the output's tangent to the tangent of its gradient.
        """
        tangents: list[Tensor | None] = [None]
        for node, cache, own in zip(self.nodes, point.caches, point.own, strict=True):
            along = {r: directions[n] for r, n in node.names.items() if n in directions}
            inputs = [tangents[j] for j in node.inputs]
            varies = along or any(t is not None for t in inputs)
            tangents.append(node.layer.tangent(own, along, cache, inputs) if varies else None)
            if not varies:
                cache.tangent = None
        assert tangents[-1] is not None
        return self._back(point, loss_product(tangents[-1]), keep=True, directions=directions)

    def _back(
        self,
        point: Point,
        go: Tensor,
        *,
        keep: bool,
        directions: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        depends = self._depends
        flowing: list[Tensor | None] = [None] * (len(self.nodes) + 1)
        flowing[-1] = go
        out: dict[str, Tensor] = {}
        for i in reversed(range(len(self.nodes))):
            node, cache, gy = self.nodes[i], point.caches[i], flowing[i + 1]
            flowing[i + 1] = None
            if gy is None or not depends[i + 1]:
                continue
            own = point.own[i]
            wanted = [depends[j] for j in node.inputs]
            if directions is None:
                inward, gradients = node.layer.backward(own, cache, gy, wanted)
                if keep:
                    point.cotangents[i] = gy
                else:
                    point.caches[i] = Cache()
            else:
                along = {r: directions[n] for r, n in node.names.items() if n in directions}
                before = point.cotangents[i]
                assert before is not None
                inward, gradients = node.layer.tangent_backward(
                    own, along, cache, before, gy, wanted
                )
            for j, g in zip(node.inputs, inward, strict=True):
                flowing[j] = add(flowing[j], g)
            for role, g in gradients.items():
                if name := node.names.get(role):
                    out[name] = out[name] + g if name in out else g
        return out

    def _own(self, node: Node, parameters: dict[str, Tensor]) -> Parameters:
        own = {role: parameters[name] for role, name in node.names.items()}
        if node.constants:
            like = next(iter(parameters.values()))
            for role, constant in node.constants.items():
                own[role] = constant.to(like).expand(len(like), *constant.shape)
        return own
