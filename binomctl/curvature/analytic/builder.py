"""Nodes of a program under construction: values, their shapes, and how they lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Size, Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from binomctl.curvature.analytic.calls import Call, Constant, Input, Parameter, Ref
from binomctl.curvature.analytic.conv import Method
from binomctl.curvature.analytic.generic import Generic, check
from binomctl.curvature.analytic.layer import Layer
from binomctl.curvature.analytic.layers import LinearMap
from binomctl.curvature.analytic.leaf import Leaf
from binomctl.curvature.analytic.program import CLOSED, GENERIC, Node
from binomctl.curvature.analytic.refused import Unsupported

Operand = Ref | int
"""A tensor of the trace, or the number of a value (0 is the input, i + 1 node i's output)."""

TO_IMAGE = LinearMap("channels last", lambda x: x.movedim(2, -1), lambda g, shape: g.movedim(-1, 2))
TO_TORCH = LinearMap(
    "channels first", lambda x: x.movedim(-1, 2), lambda g, shape: g.movedim(2, -1)
)


class Builder:
    """Grows a list of nodes; values that are images [N, C, H, W] may lie as [T, N, H, W, C]."""

    def __init__(self, x: Tensor, method: Method) -> None:
        self.nodes: list[Node] = []
        self.method = method
        self.shapes: list[Size] = [x.shape]  # one task's, as torch has them
        self.images: set[int] = {0} if x.dim() == 4 else set()
        self._of: dict[Ref, int] = {}
        self._turned: dict[int, int] = {}
        self._call: Call | None = None

    # Values --------------------------------------------------------------------------------------

    def value(self, operand: Operand) -> int:
        """The number of an operand's value, in whichever layout it lies."""
        if isinstance(operand, int):
            return operand
        if isinstance(operand, Input):
            return 0
        if operand not in self._of:
            if not isinstance(operand, Parameter | Constant):
                raise Unsupported("a value is used that no call has made")
            names = {"value": operand.name} if isinstance(operand, Parameter) else {}
            constants: dict[str, Any] = (
                {"value": operand.read} if isinstance(operand, Constant) else {}
            )
            node = Node(Leaf(), (), names, constants, self._path)
            self._of[operand] = self._append(node, operand.shape, False)
        return self._of[operand]

    def name(self, ref: Ref, value: int) -> None:
        """A result of the trace is this value."""
        self._of[ref] = value

    def torch(self, operand: Operand) -> int:
        """The value in torch's layout."""
        value = self.value(operand)
        return self._turn(value, TO_TORCH, False) if value in self.images else value

    def image(self, operand: Operand) -> int:
        """The value with its channels last."""
        value = self.value(operand)
        if len(self.shapes[value]) != 4:
            raise Unsupported(f"{self._where} takes images [N, C, H, W]")
        return value if value in self.images else self._turn(value, TO_IMAGE, True)

    def shape(self, operand: Operand) -> Size:
        """One task's shape, as torch has it."""
        return self.shapes[self.value(operand)]

    def is_image(self, value: int) -> bool:
        """Whether the value lies with its channels last."""
        return value in self.images

    # Nodes ---------------------------------------------------------------------------------------

    def add(
        self, layer: Layer, inputs: Sequence[int], shape: Sequence[int] | None = None, *,
        image: bool = False, roles: dict[str, Ref | None] | None = None,
    ) -> int:  # fmt: skip
        """A node; `shape` None is that of the first input, which then keeps its layout.

        roles: the layer's own parameters, each a parameter or a constant, or None: missing.
        """
        if shape is None:
            shape, image = self.shapes[inputs[0]], inputs[0] in self.images
        names = {r: v.name for r, v in (roles or {}).items() if isinstance(v, Parameter)}
        constants: dict[str, Any] = {
            r: v.read for r, v in (roles or {}).items() if isinstance(v, Constant)
        }
        node = Node(layer, tuple(inputs), names, constants, self._path, self._label, CLOSED)
        return self._append(node, Size(shape), image)

    def generic(self, call: Call) -> list[int]:
        """A call by torch.func: a node for each of its outputs."""
        given = [r for r in tree_leaves((call.args, call.kwargs)) if isinstance(r, Ref)]
        refs = list(dict.fromkeys(given))
        smooth = tuple(r.example.is_floating_point() for r in refs)
        inputs = [self.torch(r) for r in refs]
        examples = [r.example for r in refs]
        out = []
        for i, result in enumerate(call.results):
            layer = self._checked(call, refs, smooth, i, examples, result)
            node = Node(layer, tuple(inputs), {}, {}, call.path, call.label, GENERIC)
            out.append(self._append(node, result.shape, False))
        return out

    def _checked(
        self, call: Call, refs: list[Ref], smooth: tuple[bool, ...], i: int,
        examples: list[Tensor], result: Ref,
    ) -> Generic:  # fmt: skip
        function = _alone(call, refs, i)
        reason = ""
        # Indexing that knows no vmap gives each task a shape of its own.
        for looped in (False, True) if call.name != "__getitem__" else (False,):
            stops = not result.example.is_floating_point()
            layer = Generic(call.name, function, smooth, looped, stops)
            try:
                found = check(layer, examples)
                with torch.no_grad():
                    wanted = function(*examples)
                if found.shape == result.shape and torch.allclose(
                    found, wanted, rtol=1e-4, atol=1e-5, equal_nan=True
                ):
                    return layer
                reason = "it gives other values for two tasks at once"
            except Exception as error:  # whatever torch.func may say of a function
                reason = f"{type(error).__name__}: {error}"
        raise Unsupported(f"{call.where}: {call.name} has no derivatives by torch.func: {reason}")

    def within(self, call: Call | None) -> None:
        """The nodes that follow belong to this call."""
        self._call = call

    @property
    def _path(self) -> str:
        return self._call.path if self._call else ""

    @property
    def _label(self) -> str:
        return self._call.label if self._call else ""

    @property
    def _where(self) -> str:
        return self._call.where if self._call else "the network"

    def _append(self, node: Node, shape: Size, image: bool) -> int:
        self.nodes.append(node)
        self.shapes.append(shape)
        if image:
            self.images.add(len(self.nodes))
        return len(self.nodes)

    def _turn(self, value: int, layer: Layer, image: bool) -> int:
        if value not in self._turned:
            node = Node(layer, (value,), {}, {}, self._path)
            turned = self._append(node, self.shapes[value], image)
            self._turned[value], self._turned[turned] = turned, value
        return self._turned[value]


def _alone(call: Call, refs: list[Ref], i: int) -> Callable[..., Tensor]:
    """Output i of a call as a function of its tensors."""

    def function(*tensors: Tensor) -> Tensor:
        by_ref = dict(zip(refs, tensors, strict=True))
        args, kwargs = tree_map_only(Ref, by_ref.__getitem__, (call.args, call.kwargs))
        if call.name.endswith("_") and not call.name.startswith("__"):
            args = (args[0].clone(), *args[1:])  # in place, on a value that may be kept
        leaves = [t for t in tree_leaves(call.function(*args, **kwargs)) if isinstance(t, Tensor)]
        value: Tensor = leaves[i]
        return value

    return function


Made = int | list[int] | None
"""The values that a call makes; None: no closed form for such arguments."""
Maker = Callable[[Builder, Call], Made]
