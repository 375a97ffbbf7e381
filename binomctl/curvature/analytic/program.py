"""A network as a list of layers, and the four maps through all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from binomctl.curvature.analytic.layer import Cache, Curved, Layer, Parameters, add

Way = str
KERNEL, CLOSED, GENERIC = "kernel", "closed form", "torch.func"
"""How a layer's maps are computed; "" for what is no layer of the network's own."""
Constant = Tensor | Callable[[], Tensor]
"""A tensor outside the flat vector, or what reads its present value."""
Backward = tuple[Sequence[Tensor | None], Parameters]
"""Gradients of a node's inputs, None where they are not wanted, and of its parameters."""


@dataclass(frozen=True)
class Node:
    """One layer: which values it takes (0 is the input, i + 1 the output of node i), and where its
    parameters come from: a name in the flat vector, or a constant of the module's, read anew at
    every forward pass. `label` is the layer's type, for people."""

    layer: Layer
    inputs: tuple[int, ...]
    names: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    path: str = ""
    label: str = ""
    way: Way = ""


def depends_on_parameters(nodes: Sequence[Node]) -> list[bool]:
    """Whether each value does: the input's, then every node's output's."""
    depends = [False]
    for node in nodes:
        stops = getattr(node.layer, "stops", False)
        depends.append(not stops and (bool(node.names) or any(depends[j] for j in node.inputs)))
    return depends


@dataclass
class Point:
    """A linearisation: what forward and backward left behind at one set of parameters."""

    own: list[Parameters]
    """Every node's own parameters."""
    caches: list[Cache]
    cotangents: list[Tensor | None]


def join(parts: Sequence[Any]) -> Any:
    """Points one after another along the leading axis: tensors, and whatever holds tensors.

    What a product has left at some of them, its direction's tangents and second derivatives that
    are made when they are asked for, is left out."""
    first = parts[0]
    if any(part is None for part in parts):
        return None
    if isinstance(first, torch.Size | int | float | str):
        return first
    if isinstance(first, Cache):
        return Cache(join([part.primal for part in parts]))
    if isinstance(first, Tensor):
        return first if first.dim() == 0 else torch.cat(list(parts))
    if isinstance(first, dict):
        return {key: join([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(join(column) for column in zip(*parts, strict=True))
    names = [f.name for f in fields(first)]
    return type(first)(**{n: join([getattr(part, n) for part in parts]) for n in names})


def converted(part: Any, dtype: torch.dtype) -> Any:
    """A point, or a part of one, with every floating tensor in another type."""
    if isinstance(part, Tensor):
        return part.to(dtype) if part.is_floating_point() else part
    if isinstance(part, dict):
        return {key: converted(value, dtype) for key, value in part.items()}
    if isinstance(part, list | tuple) and not isinstance(part, torch.Size):
        return type(part)(converted(value, dtype) for value in part)
    if not is_dataclass(part) or isinstance(part, type):
        return part
    return type(part)(**{f.name: converted(getattr(part, f.name), dtype) for f in fields(part)})


@dataclass(frozen=True)
class Program:
    """Nodes in an order in which every one comes after its inputs; the last is the output."""

    nodes: tuple[Node, ...]

    _depends: list[bool] = field(init=False, repr=False)
    """Which values depend on a parameter: only their gradients are of use."""
    _curved: list[Curved | None] = field(init=False, repr=False)
    """The layer of every node, where it is one."""
    _finished: list[list[int]] = field(init=False, repr=False)
    """The values that no node needs after node i, by i."""

    def __post_init__(self) -> None:
        last = dict[int, int]()
        for i, node in enumerate(self.nodes):
            last |= dict.fromkeys(node.inputs, i)
        finished = [[j for j, i in last.items() if i == at] for at in range(len(self.nodes))]
        # Plain attributes: a cached property takes a lock, on which torch.compile breaks its graph.
        object.__setattr__(self, "_depends", depends_on_parameters(self.nodes))
        object.__setattr__(self, "_finished", finished)
        layers = [node.layer for node in self.nodes]
        object.__setattr__(self, "_curved", [v if isinstance(v, Curved) else None for v in layers])

    @property
    def shares_input(self) -> bool:
        """Whether x may have fewer tasks than the parameters: task t then sees x[t % len(x)]."""
        readers = [node.layer for node in self.nodes if 0 in node.inputs]
        return all(getattr(layer, "shares_input", False) for layer in readers)

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

        def step(i: int, gy: Tensor, wanted: list[bool]) -> Backward:
            result = self.nodes[i].layer.backward(point.own[i], point.caches[i], gy, wanted)
            if not keep:
                point.caches[i] = Cache()
            elif self._curved[i]:
                point.cotangents[i] = gy
            return result

        return self._back(go, step)

    def product(
        self, point: Point, directions: dict[str, Tensor], loss_product: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """H v by name: v by name, each [T, ...]; a parameter without an entry does not vary.

        loss_product: the map from the output's tangent to the tangent of its gradient.
        """
        along = [
            {r: directions[n] for r, n in node.names.items() if n in directions}
            for node in self.nodes
        ]
        tangents: list[Tensor | None] = [None]
        for i, node in enumerate(self.nodes):
            inputs = [tangents[j] for j in node.inputs]
            if self._depends[i + 1] and (along[i] or any(t is not None for t in inputs)):
                ty = node.layer.tangent(point.own[i], along[i], point.caches[i], inputs)
            else:
                ty = point.caches[i].tangent = None
            tangents.append(ty)
        assert tangents[-1] is not None

        def step(i: int, tgy: Tensor, wanted: list[bool]) -> Backward:
            own, cache, layer = point.own[i], point.caches[i], self._curved[i]
            if layer is None:
                return self.nodes[i].layer.backward(own, cache, tgy, wanted)
            gy = point.cotangents[i]
            assert gy is not None
            return layer.tangent_backward(own, along[i], cache, gy, tgy, wanted)

        return self._back(loss_product(tangents[-1]), step)

    def _back(
        self, go: Tensor, step: Callable[[int, Tensor, list[bool]], Backward]
    ) -> dict[str, Tensor]:
        """From the output to the input: what flows into every node, and the parameters' share."""
        flowing: list[Tensor | None] = [None] * (len(self.nodes) + 1)
        flowing[-1] = go
        out: dict[str, Tensor] = {}
        for i in reversed(range(len(self.nodes))):
            node, gy = self.nodes[i], flowing[i + 1]
            flowing[i + 1] = None
            if gy is None or not self._depends[i + 1]:
                continue
            inward, gradients = step(i, gy, [self._depends[j] for j in node.inputs])
            for j, g in zip(node.inputs, inward, strict=True):
                flowing[j] = add(flowing[j], g)
            for role, g in gradients.items():
                if name := node.names.get(role):
                    out[name] = out[name] + g if name in out else g
        return out

    def describe(self) -> list[tuple[str, str, Way]]:
        """The layers in order: path, type, and "kernel", "closed form" or "torch.func"."""
        rows = [(n.path, n.label, n.way) for n in self.nodes if n.way]
        return list(dict.fromkeys(rows))

    def _own(self, node: Node, parameters: dict[str, Tensor]) -> Parameters:
        own = {role: parameters[name] for role, name in node.names.items()}
        if node.constants:
            like = next(iter(parameters.values()))
            for role, constant in node.constants.items():
                value = constant.detach() if isinstance(constant, Tensor) else constant()
                dtype = like.dtype if value.is_floating_point() else value.dtype
                value = value.detach().to(like.device, dtype)
                own[role] = value.expand(len(like), *value.shape)
        return own
