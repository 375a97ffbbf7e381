"""From a torch module to a Program: its forward pass is recorded, each call looked up.

A call without a closed form is derived by torch.func, alone; what cannot be is refused with the
layer's path. Nothing is ever approximated.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from binomctl.curvature.analytic import (
    of_attention,
    of_convolutions,
    of_elementwise,
    of_linear,
    of_norms,
    of_pools,
    of_products,
    of_shapes,
    of_sums,
)
from binomctl.curvature.analytic.block import with_blocks
from binomctl.curvature.analytic.builder import Builder, Maker
from binomctl.curvature.analytic.calls import Call, Input
from binomctl.curvature.analytic.conv import Method
from binomctl.curvature.analytic.fuse import fused
from binomctl.curvature.analytic.program import Node, Program, depends_on_parameters
from binomctl.curvature.analytic.refused import Unsupported
from binomctl.curvature.analytic.trace import trace
from binomctl.curvature.analytic.unseen import by_names
from binomctl.flat import trainable

__all__ = ["Unsupported", "recognise"]

MAKERS: dict[str, Maker] = {
    **of_elementwise.MAKERS,
    **of_shapes.MAKERS,
    **of_sums.MAKERS,
    **of_products.MAKERS,
    **of_convolutions.MAKERS,
    **of_norms.MAKERS,
    **of_pools.MAKERS,
    **of_attention.MAKERS,
    **of_linear.MAKERS,
}
"""Closed forms by the function's name; "name_" is the same in place."""


def recognise(
    model: nn.Module, conv: Method = "per-task", *, blocks: bool = False, x: Tensor | None = None
) -> Program:
    """The program of a module.

    Args:
        conv: how convolutions are done.
        blocks: take the kernels of block.py where they fit.
        x: inputs of one task [N, ...]; the program holds for inputs of this shape. None: the few
            layers are known that do the same to any.

    Raises:
        Unsupported: naming the first layer that is not known, and why.
    """
    if x is None:
        return by_names(model, conv, blocks=blocks)
    if any(p.is_complex() for p in model.parameters()):
        raise Unsupported("complex parameters are not known")
    names = {id(p): name for name, p in trainable(model)}
    known = frozenset(MAKERS) | {f"{name}_" for name in MAKERS}
    traced = trace(model, x, names, known)
    builder = Builder(x, conv)
    for call in traced.calls:
        builder.within(call)
        for result, value in zip(call.results, _values(builder, call), strict=True):
            builder.name(result, value)
    builder.within(None)
    if isinstance(traced.output, Input):
        raise Unsupported("the output is the input")
    output = builder.torch(traced.output)
    nodes = _needed(builder.nodes, output)
    _check_reached(nodes, set(names.values()))
    nodes = fused(nodes)
    if blocks:
        nodes = with_blocks(nodes, {n: p.shape for n, p in model.named_parameters()})
    return Program(tuple(nodes))


def _values(builder: Builder, call: Call) -> list[int]:
    name = call.name
    maker = MAKERS.get(name) or (MAKERS.get(name[:-1]) if name.endswith("_") else None)
    made = None
    if maker is not None and all(r.example.is_floating_point() for r in call.results):
        try:
            made = maker(builder, call)
        except (AttributeError, IndexError, TypeError, ValueError):
            made = None  # arguments that the closed form does not expect
    if made is None:
        return builder.generic(call)
    return made if isinstance(made, list) else [made]


def _needed(nodes: list[Node], output: int) -> list[Node]:
    """The nodes on which the output depends, which comes last."""
    needed, stack = set[int](), [output]
    while stack:
        value = stack.pop()
        if value not in needed:
            needed.add(value)
            stack += nodes[value - 1].inputs if value else ()
    place = {0: 0}
    out = []
    for value, node in enumerate(nodes, 1):
        if value in needed:
            out.append(replace(node, inputs=tuple(place[j] for j in node.inputs)))
            place[value] = len(out)
    return out


def _check_reached(nodes: list[Node], names: set[str]) -> None:
    """Refuse parameters without a gradient."""
    depends = depends_on_parameters(nodes)
    reached, wanted = set[str](), {len(nodes)} if depends[-1] else set[int]()
    for value in range(len(nodes), 0, -1):
        if value in wanted:
            node = nodes[value - 1]
            reached |= set(node.names.values())
            wanted |= {j for j in node.inputs if depends[j]}
    if missing := sorted(names - reached):
        raise Unsupported(f"the output does not depend on parameter '{missing[0]}'")
